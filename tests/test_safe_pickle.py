"""The pickle of a protocol is read without running it: what numpy writes, and what attackers do."""

from __future__ import annotations

import base64
import collections
import gzip
import os
import pickle
import pickletools
import struct
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from veduta.datasets import safe_pickle
from veduta.datasets.safe_pickle import read_pickle
from veduta.errors import DatasetError

PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)


def read(folder: Path, data: bytes) -> object:
    file = folder / "gnd.pkl"
    file.write_bytes(data)
    return read_pickle(file)


def refusal(folder: Path, data: bytes) -> str:
    with pytest.raises(DatasetError) as caught:
        read(folder, data)
    assert str(folder / "gnd.pkl") in str(caught.value)
    return str(caught.value)


def assert_same(got: object, wanted: object) -> None:
    """Equal in value, in type, and in the order of a dictionary's keys."""
    if isinstance(wanted, np.ndarray):
        assert isinstance(got, np.ndarray)
        assert got.dtype == wanted.dtype
        np.testing.assert_array_equal(got, wanted)
        return
    assert type(got) is type(wanted)
    if isinstance(wanted, dict):
        assert list(got) == list(wanted)
        got, wanted = list(got.values()), list(wanted.values())
    if isinstance(wanted, list | tuple):
        assert len(got) == len(wanted)
        for one, other in zip(got, wanted, strict=True):
            assert_same(one, other)
    else:
        assert got == wanted


numbers = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**64 - 1),
    st.floats(allow_nan=False),
    st.text(max_size=8),
    st.binary(max_size=8),
)
arrays = npst.arrays(
    st.sampled_from(["?", "<i8", ">i4", "u1", "<u2", "f4", ">f8", "f2", "<U5", "S3"]),
    npst.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3),
    elements=None,
).filter(lambda array: array.dtype.kind != "f" or not np.isnan(array).any())
values = st.recursive(
    st.one_of(numbers, arrays),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=4).map(tuple),
        st.dictionaries(st.one_of(st.text(max_size=4), st.integers(0, 9)), inner, max_size=4),
    ),
    max_leaves=12,
)


class TestPlainValues:
    @settings(max_examples=150)
    @given(value=values, protocol=st.sampled_from(PROTOCOLS))
    def test_whatever_pickle_writes_reads_back(
        self, tmp_path: Path, value: object, protocol: int
    ) -> None:
        assert_same(read(tmp_path, pickle.dumps(value, protocol)), value)

    @settings(max_examples=50)
    @given(value=values, protocol=st.sampled_from(PROTOCOLS))
    def test_so_does_what_pickletools_shortens(
        self, tmp_path: Path, value: object, protocol: int
    ) -> None:
        assert_same(read(tmp_path, pickletools.optimize(pickle.dumps(value, protocol))), value)

    @pytest.mark.parametrize("protocol", PROTOCOLS)
    def test_one_object_in_two_places_is_one_object(self, tmp_path: Path, protocol: int) -> None:
        array, text = np.arange(3), "x" * 9
        got = read(tmp_path, pickle.dumps([array, text, array, {"a": array}], protocol))
        assert got[0] is got[2] is got[3]["a"]

    @pytest.mark.parametrize("protocol", PROTOCOLS)
    def test_numpy_scalars_become_plain_numbers(self, tmp_path: Path, protocol: int) -> None:
        scalars = [np.int64(-5), np.float32(0.5), np.bool_(True), np.str_("añb"), np.uint8(200)]
        got = read(tmp_path, pickle.dumps(scalars, protocol))
        assert got == [-5, 0.5, True, "añb", 200]
        assert [type(item) for item in got] == [int, float, bool, str, int]

    def test_fortran_order_and_views(self, tmp_path: Path) -> None:
        table = np.asfortranarray(np.arange(6).reshape(2, 3))
        for protocol in PROTOCOLS:
            got = read(tmp_path, pickle.dumps([table, table[::-1, ::2]], protocol))
            np.testing.assert_array_equal(got[0], table)
            np.testing.assert_array_equal(got[1], table[::-1, ::2])

    def test_arrays_cannot_be_written_to(self, tmp_path: Path) -> None:
        for protocol in PROTOCOLS:
            got = read(tmp_path, pickle.dumps(np.arange(3), protocol))
            with pytest.raises(ValueError, match="read-only"):
                got[0] = 1

    def test_the_old_and_the_new_name_of_numpys_module(self, tmp_path: Path) -> None:
        array = np.arange(4)
        for protocol in PROTOCOLS:
            data = pickle.dumps(array, protocol)
            assert b"numpy._core" in data
            if protocol < 4:  # there names end with a line, and no length has to be changed
                old = data.replace(b"numpy._core", b"numpy.core")
                np.testing.assert_array_equal(read(tmp_path, old), array)

    def test_a_pickle_of_python_2(self, tmp_path: Path) -> None:
        # python2 -c "pickle.dumps({'a': np.array([1, 300], '<i2'), 'n': 'caf\xe9'}, 0)"
        array = (
            b"(dp0\nS'a'\np1\ncnumpy.core.multiarray\n_reconstruct\np2\n(cnumpy\nndarray\np3\n"
            b"(I0\ntp4\nS'b'\np5\ntp6\nRp7\n(I1\n(I2\ntp8\ncnumpy\ndtype\np9\n(S'i2'\np10\nI0\nI1\n"
            b"tp11\nRp12\n(I3\nS'<'\np13\nNNNI-1\nI-1\nI0\ntp14\nbI00\nS'\\x01\\x00,\\x01'\np15\n"
            b"tp16\nbsS'n'\np17\nS'caf\\xe9'\np18\ns."
        )
        got = read(tmp_path, array)
        assert list(got) == ["a", "n"]
        assert got["a"].tolist() == [1, 300]
        assert got["n"] == "café"
        assert pickle.loads(array, encoding="latin1")["a"].tolist() == [1, 300]

    def test_python_2_binary_strings(self, tmp_path: Path) -> None:
        assert read(tmp_path, b"\x80\x02U\x04caf\xe9q\x00.") == "café"
        assert read(tmp_path, b"\x80\x02T\x04\x00\x00\x00caf\xe9.") == "café"


class Caller:
    """Pickles as a call of `function` with `arguments`."""

    def __init__(self, function: object, *arguments: object) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return self.call


class Stateful:
    def __init__(self) -> None:
        self.a = 1


def stack_global(module: str, name: str) -> bytes:
    text = b"".join(b"\x8c" + bytes([len(part)]) + part.encode() for part in (module, name))
    return b"\x80\x04" + text + b"\x93"


class TestRefuses:
    @pytest.mark.parametrize("protocol", PROTOCOLS)
    @pytest.mark.parametrize(
        ("function", "argument", "asked"),
        [
            (os.system, "touch {}", f"{os.name}.system"),
            (eval, "open({!r}, 'w')", ".eval"),
            (exec, "open({!r}, 'w')", ".exec"),
            (__import__, "{}", ".__import__"),
            (getattr, "{}", ".getattr"),
            (np.load, "{}", "numpy.load"),
            (base64.b64decode, "{}", "base64.b64decode"),
        ],
    )
    def test_a_call_and_names_it(
        self, tmp_path: Path, protocol: int, function: object, argument: str, asked: str
    ) -> None:
        mark = tmp_path / "ran"
        evil = Caller(function, argument.format(str(mark)))
        for value in (evil, {"gnd": [{"bbx": evil}]}, [np.arange(2), (evil,)], {"x": evil}):
            message = refusal(tmp_path, pickle.dumps(value, protocol))
            assert "it asks for " in message and asked in message
            assert "get the file from its publisher again" in message
        assert not mark.exists()

    @pytest.mark.parametrize("protocol", PROTOCOLS)
    def test_objects_of_any_class(self, tmp_path: Path, protocol: int) -> None:
        for value in (
            Stateful(),
            collections.OrderedDict(a=1),
            Path("x"),
            {1, 2},
            frozenset({1}),
            complex(1, 2),
            range(3),
            np.ma.masked_array([1]),
            np.eye(2).view(np.matrix),
            np.eye(2).view(np.recarray),
            np.datetime64("2020-01-01"),
            np.random.default_rng(0),
        ):
            assert "refused, it " in refusal(tmp_path, pickle.dumps(value, protocol))

    @pytest.mark.parametrize(
        ("module", "name"),
        [
            ("os", "system"),
            ("posix", "system"),
            ("builtins", "eval"),
            ("numpy", "core.multiarray._reconstruct"),
            ("numpy.core.multiarray", "_reconstruct.__globals__"),
            ("numpy.core", "multiarray._reconstruct"),
            ("numpy", "load"),
            ("numpy", "ndarray.__class__"),
            ("numpy", "ndarray.tofile"),
            ("numpy.testing._private.utils", "runstring"),
            ("_codecs", "decode"),
            ("_codecs", "encode.__self__"),
            ("codecs", "encode"),
            ("builtins", "bytearray"),
            ("copyreg", "_reconstructor"),
            ("", ""),
            ("numpy ndarray", "dtype"),
        ],
    )
    def test_names_and_dotted_names(self, tmp_path: Path, module: str, name: str) -> None:
        call = stack_global(module, name) + b"(tR."
        assert f"it asks for {module}.{name}" in refusal(tmp_path, call)
        if module and " " not in module:
            line = b"c" + f"{module}\n{name}\n".encode() + b"(tR."
            assert f"it asks for {module}.{name}" in refusal(tmp_path, line)
            old = b"(i" + f"{module}\n{name}\n".encode() + b"."
            assert f"{module}.{name}" in refusal(tmp_path, old)

    def test_a_name_put_together_from_the_memo(self, tmp_path: Path) -> None:
        data = b"\x80\x04\x8c\x02os\x94\x8c\x06system\x940h\x00h\x01\x93."
        assert "os.system" in refusal(tmp_path, data)
        assert "no text" in refusal(tmp_path, b"\x80\x04]]\x93.")
        assert "no text" in refusal(tmp_path, b"\x80\x04C\x02osC\x06system\x93.")

    def test_names_that_are_known_as_values(self, tmp_path: Path) -> None:
        assert "a name or a type" in refusal(tmp_path, pickle.dumps([np.ndarray], 0))
        assert "a name or a type" in refusal(tmp_path, pickle.dumps({"a": np.dtype("i8")}, 4))
        assert "a name or a type" in refusal(
            tmp_path, b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR."
        )

    def test_other_ways_to_make_objects(self, tmp_path: Path) -> None:
        known = b"\x80\x04cnumpy\nndarray\n"
        assert "NEWOBJ" in refusal(tmp_path, known + b")\x81.")
        assert "NEWOBJ_EX" in refusal(tmp_path, known + b")}\x92.")
        assert "OBJ" in refusal(tmp_path, b"(cnumpy\nndarray\nI1\no.")
        assert "it makes an object of numpy.ndarray" in refusal(
            tmp_path, b"(I1\ninumpy\nndarray\n."
        )
        assert "PERSID" in refusal(tmp_path, b"Pabc\n.")
        assert "BINPERSID" in refusal(tmp_path, b"\x80\x02X\x01\x00\x00\x00aQ.")
        for code in (b"\x82\x01", b"\x83\x01\x00", b"\x84\x01\x00\x00\x00"):
            assert "instruction EXT" in refusal(tmp_path, b"\x80\x02" + code + b".")
        assert "NEXT_BUFFER" in refusal(tmp_path, b"\x80\x05\x97.")

    def test_calls_of_known_names_with_other_arguments(self, tmp_path: Path) -> None:
        array = b"cnumpy.core.multiarray\n_reconstruct\n"
        calls = [
            array + b"(cnumpy\ndtype\n(I0\ntS'b'\ntR.",
            array + b"(tR.",
            b"cnumpy\nndarray\n(I9\ntR.",
            b"cnumpy\ndtype\n(I9\ntR.",
            b"cnumpy.core.multiarray\nscalar\n(I1\ntR.",
            b"c__builtin__\nbytes\n(I999999999999\ntR.",
            b"c_codecs\nencode\n(S'a'\nS'zlib'\ntR.",
            b"c_codecs\nencode\n(S'a'\ntR.",
            b"c_codecs\nencode\n(I1\nS'latin1'\ntR.",
        ]
        for call in calls:
            assert "it calls " in refusal(tmp_path, call)
        assert "no known function" in refusal(tmp_path, b"S'a'\n(tR.")
        assert "no known function" in refusal(tmp_path, b"cnumpy\nndarray\n]R.")
        assert "no array" in refusal(tmp_path, b"]}b.")
        assert "no array" in refusal(tmp_path, b"cnumpy\nndarray\n}b.")

    @pytest.mark.parametrize(
        "array",
        [
            np.array([print], dtype=object),
            np.array(["2020"], dtype="M8[D]"),
            np.zeros(2, dtype=[("a", "i4")]),
            np.zeros(2, dtype="V8"),
            np.zeros(2, dtype=np.longdouble),
            np.zeros(2, dtype=complex),
        ],
    )
    def test_arrays_that_are_not_plain(self, tmp_path: Path, array: np.ndarray) -> None:
        for protocol in PROTOCOLS:
            message = refusal(tmp_path, pickle.dumps(array, protocol))
            assert "refused, it " in message

    @pytest.mark.parametrize(
        "shape",
        [
            "(I1000000000\nI1000000000\nt",
            "(I9\nt",
            "(I-3\nt",
            "(I99999999999999\nI0\nt",
            "(I-1\nI-1\nt",
            "(" + "I1\n" * 70 + "t",
            "]",
            "(S'a'\nt",
        ],
    )
    def test_a_shape_that_the_bytes_do_not_fill(self, tmp_path: Path, shape: str) -> None:
        data = (
            "cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR(I1\n"
            f"{shape}cnumpy\ndtype\n(S'i8'\nI0\nI1\ntR(I3\nS'<'\nNNNI-1\nI-1\nI0\ntbI00\n"
            "S'12345678'\ntb."
        )
        assert "refused, it has an array of " in refusal(tmp_path, data.encode())
        whole = data.replace(shape, "(I1\nt").encode()
        assert read(tmp_path, whole).tolist() == [int.from_bytes(b"12345678", "little")]

    def test_an_array_whose_values_are_objects(self, tmp_path: Path) -> None:
        data = (
            b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR(I1\n(I1\nt"
            b"cnumpy\ndtype\n(S'i8'\nI0\nI1\ntR(I3\nS'<'\nNNNI-1\nI-1\nI0\ntbI00\n(lI1\natb."
        )
        assert "values are objects" in refusal(tmp_path, data)

    @pytest.mark.slow
    def test_keys_that_are_dangerous_to_hash(self, tmp_path: Path) -> None:
        deep = b"\x80\x02}" + b")" + b"\x85" * 500_000 + b"Ns."
        assert "key of type tuple" in refusal(tmp_path, deep)
        assert "key of type float" in refusal(tmp_path, pickle.dumps({0.5: 1}))

    def test_deep_nesting_alone_does_no_harm(self, tmp_path: Path) -> None:
        value = read(tmp_path, b"\x80\x02)" + b"\x85" * 100_000 + b".")
        assert isinstance(value, tuple)

    def test_a_list_that_holds_itself(self, tmp_path: Path) -> None:
        own: list[object] = []
        own.append(own)
        got = read(tmp_path, pickle.dumps(own))
        assert got[0] is got


class TestStaysSmall:
    """Each of these makes `pickle` allocate far more than the file has, or work for hours."""

    @pytest.fixture(autouse=True)
    def in_bounded_memory(self):
        tracemalloc.start()
        yield
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 160 * 2**20

    def test_memo_numbers(self, tmp_path: Path) -> None:
        assert read(tmp_path, b"\x80\x02Nr\xff\xff\xff\x7f.") is None

    @pytest.mark.parametrize(
        "code", [b"\x8e", b"\x8d", b"\x96", b"\x95"], ids=["bytes", "text", "bytearray", "frame"]
    )
    def test_lengths_that_are_not_there(self, tmp_path: Path, code: bytes) -> None:
        for length in (2**40, 2**62, 2**64 - 1):
            data = b"\x80\x05" + code + struct.pack("<Q", length) + b"abc."
            if code == b"\x95":  # how long a frame is means nothing here
                data = data[:-4] + b"N."
                assert read(tmp_path, data) is None
            else:
                assert "not a whole pickle" in refusal(tmp_path, data)

    def test_doubling_lists(self, tmp_path: Path) -> None:
        read(tmp_path, b"\x80\x02]" + b"q\x00(h\x00h\x00t" * 500 + b".")

    def test_one_string_encoded_again_and_again(self, tmp_path: Path) -> None:
        text = "x" * 2**20
        data = (
            b"c_codecs\nencode\np0\n0X" + struct.pack("<I", len(text)) + text.encode() + b"p1\n0("
        )
        data += b"g0\n(g1\nX\x06\x00\x00\x00latin1tR" * 500 + b"l."
        assert "far more data than it holds" in refusal(tmp_path, data)

    def test_a_big_number(self, tmp_path: Path) -> None:
        data = b"\x80\x02\x8b" + struct.pack("<I", 2**20) + b"\x01" * 2**20 + b"."
        assert "an integer of 8,388,601 bits" in refusal(tmp_path, data)
        assert "not a whole pickle" in refusal(tmp_path, b"L" + b"9" * 10_000 + b"L\n.")

    def test_too_many_instructions(self, tmp_path: Path, monkeypatch) -> None:
        monkeypatch.setattr(safe_pickle, "MAX_INSTRUCTIONS", 1000)
        assert "more than 1,000 instructions" in refusal(tmp_path, b"(" + b"]" * 1000 + b"l.")

    def test_a_file_that_is_too_large(self, tmp_path: Path) -> None:
        file = tmp_path / "gnd.pkl"
        with file.open("wb") as stream:
            stream.truncate(2**40)  # a hole: no disk is used
        with pytest.raises(DatasetError, match=r"gnd\.pkl: more than 16 MB"):
            read_pickle(file)


class TestNoPickle:
    def test_what_it_is_instead(self, tmp_path: Path) -> None:
        whole = pickle.dumps({"gnd": [1, 2]})
        assert "compressed with gzip; unpack it first" in refusal(tmp_path, gzip.compress(whole))
        for data in (
            b"",
            b"# a text file\n",
            b"{}",
            b"PK\x03\x04",
            b"\x89PNG",
            b".",
            b"\xff\xd8\xff",
        ):
            refusal(tmp_path, data)
        with pytest.raises(DatasetError, match=r"absent\.pkl: cannot be read"):
            read_pickle(tmp_path / "absent.pkl")
        with pytest.raises(DatasetError, match="cannot be read"):
            read_pickle(tmp_path)

    @pytest.mark.parametrize("protocol", PROTOCOLS)
    def test_cut_at_any_byte(self, tmp_path: Path, protocol: int) -> None:
        data = pickle.dumps({"gnd": [{"bbx": [1.5, 2], "easy": np.arange(3)}], "n": "é"}, protocol)
        for end in range(len(data)):
            assert "not a whole pickle" in refusal(tmp_path, data[:end])

    @pytest.mark.parametrize("instruction", ["S", "c", "i"])
    def test_odd_escapes_give_no_warning(self, tmp_path: Path, instruction: str) -> None:
        data = f"({instruction}'a\\qb'\n'c\\qd'\n.".encode()
        try:
            read(tmp_path, data)
        except DatasetError as error:
            assert "gnd.pkl" in str(error)

    @settings(max_examples=300)
    @given(data=st.data(), protocol=st.sampled_from(PROTOCOLS))
    def test_damage_is_an_error_or_plain_values(
        self, tmp_path: Path, data: st.DataObject, protocol: int
    ) -> None:
        whole = pickle.dumps({"gnd": [{"bbx": [1.5, 2], "easy": np.arange(3)}]}, protocol)
        bad = bytearray(whole)
        for place, byte in data.draw(
            st.lists(st.tuples(st.integers(0, len(bad) - 1), st.integers(0, 255)), max_size=4)
        ):
            bad[place] = byte
        try:
            read(tmp_path, bytes(bad))
        except DatasetError as error:
            assert "gnd.pkl" in str(error)

    @settings(max_examples=300)
    @given(data=st.binary(max_size=60))
    def test_any_bytes(self, tmp_path: Path, data: bytes) -> None:
        try:
            read(tmp_path, data)
        except DatasetError as error:
            assert "gnd.pkl" in str(error)


def test_nothing_is_imported(tmp_path: Path) -> None:
    refusal(tmp_path, stack_global("antigravity", "fly") + b"(tR.")
    assert "antigravity" not in sys.modules
