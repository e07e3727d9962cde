// Elements that scripts add to a page.

/** Return a new element. `properties`: of it, such as `textContent`; `children`: elements or texts. */
export function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}
