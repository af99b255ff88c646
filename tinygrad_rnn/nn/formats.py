"""What a file is that was taken for one of safetensors, told from its first bytes."""

from __future__ import annotations

BEGINNING = 512
"""How many of its first bytes tell what a file is."""

PICKLE = (
    "a pickle, which is refused on purpose, since reading one can run any code that is in it; read "
    "it with torch.load(path, weights_only=True) and give that to model.load_state_dict, or write "
    "it anew with safetensors.torch.save_file"
)

CONVERT = "write its arrays into a safetensors file"

KINDS: list[tuple[bytes, str]] = [
    (b"\x93NUMPY", "is one array of NumPy (.npy), no safetensors file; write it as one with "
     "safetensors.numpy.save_file"),
    (b"\x89HDF\r\n\x1a\n", f"is an HDF5 file, no safetensors file; {CONVERT}"),
    (b"GGUF", f"is a GGUF file, no safetensors file; {CONVERT}"),
    (b"\x1f\x8b", "is compressed by gzip, no safetensors file; decompress it"),
    (b"BZh", "is compressed by bzip2, no safetensors file; decompress it"),
    (b"\xfd7zXZ\0", "is compressed by xz, no safetensors file; decompress it"),
    (b"\x28\xb5\x2f\xfd", "is compressed by zstd, no safetensors file; decompress it"),
    (b"version https://git-lfs", "is a pointer of Git LFS to a file that is not there yet; fetch "
     "it with: git lfs pull"),
    (b"<!DOCTYPE", "is a web page, no safetensors file; download the file itself"),
    (b"<!doctype", "is a web page, no safetensors file; download the file itself"),
    (b"<html", "is a web page, no safetensors file; download the file itself"),
]  # fmt: skip


def recognised(start: bytes) -> str | None:
    """One sentence, without its subject, on what a file with this beginning is; None if unknown."""
    if start.startswith(b"PK\x03\x04"):
        return _archive(start)
    if start[8:9] == b"{":  # one of safetensors, whose first bytes are a number
        return None
    if start[:1] == b"\x80" and start[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        return f"is {PICKLE}"
    if start[257:262] == b"ustar":
        return "is a tar archive, no safetensors file; unpack it"
    return next((said for magic, said in KINDS if start.startswith(magic)), None)


def _archive(start: bytes) -> str:
    """What a zip archive is, by the name of the first file in it."""
    name = start[30 : 30 + int.from_bytes(start[26:28], "little")]
    if name.endswith(b".npy"):
        return (
            "is an archive of NumPy (.npz), no safetensors file; write its arrays as one with "
            "safetensors.numpy.save_file"
        )
    if name.endswith(b"/data.pkl") or b"/data/" in name:
        return f"is a file of PyTorch: a zip archive with {PICKLE}"
    return f"is a zip archive, no safetensors file; if PyTorch has made it, it holds {PICKLE}"
