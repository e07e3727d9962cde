"""Files of other programs: descriptors and rankings that Veduta judges, and the same written."""
