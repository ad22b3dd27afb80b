package drill

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"kvol/internal/block"
)

// Part is a part of a volume and what lies in it: the whole of one without a
// table of partitions.
type Part struct {
	Name     string // "volume", or "partition 1"
	Off, Len int64  // bytes
	Holds    string // ext, xfs, btrfs, vfat, swap, luks, lvm, raid, boot, nothing; "" for what is not known
}

const (
	sector        = 512
	mostPartition = 128
	// headLength is how much of a part tells what is in it: btrfs has its
	// superblock at 64 KiB.
	headLength = 68 << 10
)

// marks are what kinds of content are known by.
var marks = []struct {
	off   int
	bytes string
	holds string
}{
	{0x438, "\x53\xef", "ext"}, {0, "XFSB", "xfs"}, {0x10040, "_BHRfS_M", "btrfs"}, {0, "LUKS\xba\xbe", "luks"},
	{0x218, "LVM2 001", "lvm"}, {0x18, "LVM2 001", "lvm"}, {0x1000, "\xfc\x4e\x2b\xa9", "raid"},
	{0xff6, "SWAPSPACE2", "swap"}, {0xff6, "SWAP-SPACE", "swap"}, {0x52, "FAT32   ", "vfat"}, {0x36, "FAT1", "vfat"},
}

// Look finds out what is on a volume of size bytes: in its partitions where it
// has a table of them (GPT, or MBR without extended ones), else in itself.
func Look(r io.ReaderAt, size int64) ([]Part, error) {
	whole := Part{Name: "volume", Len: size}
	if err := whole.look(r); err != nil || whole.Holds != "" && whole.Holds != "nothing" {
		return []Part{whole}, err
	}
	parts, err := partitions(r, size)
	if err != nil || len(parts) == 0 {
		return []Part{whole}, err
	}
	for i := range parts {
		if parts[i].Holds == "" {
			if err := parts[i].look(r); err != nil {
				return nil, err
			}
		}
	}
	return parts, nil
}

// look fills in what a part holds.
func (p *Part) look(r io.ReaderAt) error {
	head := make([]byte, min(headLength, p.Len))
	if _, err := r.ReadAt(head, p.Off); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	for _, m := range marks {
		if end := m.off + len(m.bytes); end <= len(head) && string(head[m.off:end]) == m.bytes {
			p.Holds = m.holds
			return nil
		}
	}
	if len(bytes.Trim(head, "\x00")) == 0 {
		p.Holds = "nothing"
	}
	return nil
}

// partitions reads the table of partitions; none is no error.
func partitions(r io.ReaderAt, size int64) ([]Part, error) {
	var head [2 * sector]byte
	if size < int64(len(head)) {
		return nil, nil
	}
	if _, err := r.ReadAt(head[:], 0); err != nil {
		return nil, err
	}
	if string(head[sector:sector+8]) == "EFI PART" {
		return gpt(r, head[sector:], size)
	}
	if head[510] != 0x55 || head[511] != 0xaa {
		return nil, nil
	}
	var parts []Part
	for i := range 4 {
		e := head[446+16*i:][:16]
		kind, from, n := e[4], binary.LittleEndian.Uint32(e[8:]), binary.LittleEndian.Uint32(e[12:])
		if kind == 0 || n == 0 {
			continue
		}
		p := Part{Name: fmt.Sprintf("partition %d", i+1), Off: int64(from) * sector, Len: int64(n) * sector}
		if p.Off+p.Len > size {
			return nil, block.Errorf(block.Corrupt, "Its %s ends beyond the volume.", p.Name)
		}
		parts = append(parts, p)
	}
	return parts, nil
}

// biosBoot is the type of a partition that has a boot loader's code.
var biosBoot = []byte("\x48\x61\x68\x21\x49\x64\x6f\x6e\x74\x4e\x65\x65\x64\x45\x46\x49")

// gpt reads a GUID partition table (UEFI, section 5.3) by its first header.
func gpt(r io.ReaderAt, h []byte, size int64) ([]Part, error) {
	at, n, each := binary.LittleEndian.Uint64(
		h[72:],
	), binary.LittleEndian.Uint32(
		h[80:],
	), binary.LittleEndian.Uint32(
		h[84:],
	)
	if at < 2 || at > uint64(size)/sector || n > mostPartition || each < 128 || each > sector {
		return nil, block.Errorf(block.Corrupt, "Its table of partitions can't be understood.")
	}
	table := make([]byte, int(n)*int(each))
	if int64(at)*sector+int64(len(table)) > size {
		return nil, block.Errorf(block.Corrupt, "Its table of partitions ends beyond the volume.")
	}
	if _, err := r.ReadAt(table, int64(at)*sector); err != nil {
		return nil, err
	}
	var parts []Part
	for i := range int(n) {
		e := table[i*int(each):][:128]
		first, last := binary.LittleEndian.Uint64(e[32:]), binary.LittleEndian.Uint64(e[40:])
		if len(bytes.Trim(e[:16], "\x00")) == 0 {
			continue
		}
		p := Part{Name: fmt.Sprintf("partition %d", i+1)}
		if last < first || last >= uint64(size)/sector {
			return nil, block.Errorf(block.Corrupt, "Its %s ends beyond the volume.", p.Name)
		}
		if p.Off, p.Len = int64(first)*sector, int64(last-first+1)*sector; bytes.Equal(e[:16], biosBoot) {
			p.Holds = "boot"
		}
		parts = append(parts, p)
	}
	return parts, nil
}
