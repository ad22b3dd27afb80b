// Package imagehead looks at the first bytes of a disk image before any other
// program does: whether they are of the format that the image is said to have, and
// whether they name other files, which qemu-img would open.
package imagehead

import (
	"bytes"
	"encoding/binary"
	"slices"

	"kvol/internal/block"
)

// Size is how many bytes of an image Check looks at, at most.
const Size = 512

// IsRaw reports whether images of a disk format, as Glance names them, are a disk's
// bytes and nothing else.
func IsRaw(format string) bool {
	return slices.Contains([]string{"raw", "iso", "ami", "aki", "ari"}, format)
}

// marks are what begins an image of a format that is not raw, and where. A vhd of
// fixed size has none.
var marks = []struct {
	format string
	at     int
	text   string
}{
	{"qcow2", 0, "QFI\xfb"}, {"vmdk", 0, "KDMV"}, {"vdi", 0x40, "\x7f\x10\xda\xbe"}, {"vhdx", 0, "vhdxfile"},
	{"vhd", 0, "conectix"}, {"ploop", 0, "WithoutFreeSpace"}, {"ploop", 0, "WithouFreSpacExt"},
	{"a vmdk of several files", 0, "# Disk DescriptorFile"}, {"vmdk of version 3", 0, "COWD"}, {"qed", 0, "QED\x00"},
}

// formatOf is the format that a head has the mark of; "" for none.
func formatOf(head []byte) string {
	for _, m := range marks {
		if len(head) >= m.at && bytes.HasPrefix(head[m.at:], []byte(m.text)) {
			return m.format
		}
	}
	return ""
}

// Check refuses an image by its first bytes, Size of them or all there are. format
// is what Glance calls its disk format. Invalid where the image is of another format
// (cinder/image/image_utils.py, check_image_format), has a backing file or a data
// file, or consists of several files.
func Check(head []byte, format string) error {
	head = head[:min(len(head), Size)]
	found := formatOf(head)
	switch {
	case IsRaw(format) && found != "":
		return block.Errorf(block.Invalid,
			"The image format was claimed to be '%s' but the image data appears to be in a different format.", format)
	case IsRaw(format), format == "vhd" && found == "":
		return nil
	case format == "vmdk" && found != format:
		return block.Errorf(block.Invalid, "A VMDK image that is not one file with its header is not allowed.")
	case found != format, format == "qed": // a QED may have a backing file, which nobody looks for here
		return block.Errorf(block.Invalid, "The image is no valid %s.", format)
	case format == "qcow2":
		return checkQcow2(head)
	case format == "vmdk":
		return checkVMDK(head)
	}
	return nil
}

// The header of a qcow2 (docs/interop/qcow2.txt of QEMU): big-endian.
const (
	qcow2Version      = 4  // 4 bytes
	qcow2BackingFile  = 8  // 8 bytes: the offset of its name, 0 for none
	qcow2BackingSize  = 16 // 4 bytes
	qcow2Incompatible = 72 // 8 bytes, from version 3 on
	qcow2End          = 80
	qcow2ExternalData = 1 << 2
)

func checkQcow2(head []byte) error {
	be := binary.BigEndian
	switch {
	case len(head) < qcow2End:
		return block.Errorf(block.Invalid, "The image is no valid qcow2.")
	case be.Uint64(head[qcow2BackingFile:]) != 0 || be.Uint32(head[qcow2BackingSize:]) != 0:
		return block.Errorf(block.Invalid, "The image has a backing file, which is not allowed.")
	case be.Uint32(head[qcow2Version:]) >= 3 && be.Uint64(head[qcow2Incompatible:])&qcow2ExternalData != 0:
		return block.Errorf(block.Invalid, "The image has an external data file, which is not allowed.")
	}
	return nil
}

// The header of a sparse VMDK (block/vmdk.c of QEMU, VMDK4Header): little-endian.
const (
	vmdkCapacity = 12 // 8 bytes; where they are 0, a descriptor tells which files it consists of
	vmdkEnd      = 20
)

func checkVMDK(head []byte) error {
	if len(head) < vmdkEnd || binary.LittleEndian.Uint64(head[vmdkCapacity:]) == 0 {
		return block.Errorf(block.Invalid, "A VMDK image that is not one file with its header is not allowed.")
	}
	return nil
}
