package drill

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"kvol/internal/block"
	"kvol/internal/driver"
)

// Volume is what a Checker reads: a clone as a host would see it.
type Volume interface {
	io.ReaderAt
	Size() int64
}

// Checker checks the file systems on volumes with their own tools. Those work on
// the part itself where it can be had as a file (see Direct), else on a copy of
// its data in a scratch directory.
type Checker struct {
	// Run runs a tool and returns its exit status and the beginning of what it
	// said. NotFound is for a tool that is not installed.
	Run func(ctx context.Context, command []string) (exit int, output string, err error)
	// Direct is Run for a tool whose last argument is to be the part itself, which
	// it may write to. Unsupported is for a part, or a machine, with which that
	// can't be: the part is copied then. nil is for never.
	Direct func(ctx context.Context, p Part, command []string) (exit int, output string, err error)
	// Hidden says that the volume is encrypted where it lies: it is not copied.
	Hidden bool
	// Most is how many bytes of data a part may have to be copied.
	Most int64
}

// Checked is what a check of a volume came to.
type Checked struct {
	Passed bool
	Text   string // a sentence for each part
	Output string // of the tools
}

// tool is how a kind of file system is checked: what prepares the copy, and what
// must end with status 0.
type tool struct {
	prepare []string // may say that it changed something
	check   []string
	unsure  string // output by which a failure means nothing, since a log would have to be replayed
}

// tools are by what a Part holds. e2fsck replays the journal first, as mounting
// would: a moment of a file system in use has one. That is all it may do before
// the check.
var tools = map[string]tool{
	"ext":   {prepare: []string{"e2fsck", "-E", "journal_only", "-y"}, check: []string{"e2fsck", "-f", "-n"}},
	"xfs":   {check: []string{"xfs_repair", "-n", "-f"}, unsure: "valuable metadata changes in a log"},
	"btrfs": {check: []string{"btrfs", "check", "--readonly"}},
	"vfat":  {check: []string{"fsck.vfat", "-n"}},
}

// opaque are contents that nothing here can look into.
var opaque = map[string]string{
	"luks": "is encrypted by its hosts", "lvm": "is a physical volume of LVM", "raid": "is a member of a RAID array",
	"": "holds nothing that is known",
}

// Check checks all file systems on a volume. dir is a directory of its own, to
// be removed by the caller. Passed is true only if there is at least one file
// system, all are whole, and nothing is left that can't be looked into. An error
// means that nothing can be said, as for what is given up with ctx.
func (c Checker) Check(ctx context.Context, v Volume, dir string) (out Checked, err error) {
	parts, err := Look(v, v.Size())
	if block.Is(err, block.Corrupt) {
		text, _ := block.UserMessage(err)
		return Checked{Text: text}, nil
	}
	if err != nil {
		return out, err
	}
	good, bad := 0, 0
	var texts []string
	for _, p := range parts {
		switch why, hidden := opaque[p.Holds]; {
		case hidden:
			texts, bad = append(texts, fmt.Sprintf("The %s %s: look into it with a command.", p.Name, why)), bad+1
			continue
		case p.Holds == "swap" || p.Holds == "boot" || p.Holds == "nothing":
			texts = append(texts, fmt.Sprintf("The %s holds no file system (%s).", p.Name, p.Holds))
			continue
		}
		whole, text, output, err := c.part(ctx, v, p, filepath.Join(dir, fmt.Sprintf("%d.img", len(texts))))
		if err != nil {
			return out, err
		}
		out.Output += output
		texts = append(texts, text)
		if whole {
			good++
		} else {
			bad++
		}
	}
	out.Passed, out.Text = good > 0 && bad == 0, strings.Join(texts, " ")
	return out, nil
}

// part checks a part, by itself or by a copy.
func (c Checker) part(ctx context.Context, v Volume, p Part, path string) (whole bool, text, output string, err error) {
	if c.Direct != nil {
		whole, text, output, err = p.check(func(command []string) (int, string, error) { return c.Direct(ctx, p, command) })
		if !block.Is(err, block.Unsupported) {
			return whole, text, output, err
		}
	}
	if c.Hidden {
		return false, fmt.Sprintf("The %s on the %s is encrypted where it lies, so that it is not copied to be checked, and "+
			"this zone can't have it checked in its place: that needs nbdfuse, and /dev/fuse in a name space of its own.",
			p.Holds, p.Name), "", nil
	}
	err = c.copy(ctx, v, p, path)
	if block.Is(err, block.OverLimit) {
		text, _ = block.UserMessage(err)
		return false, text, "", nil
	}
	if err != nil {
		return false, "", "", err
	}
	defer func() { err = errors.Join(err, os.Remove(path)) }()
	return p.check(func(command []string) (int, string, error) {
		return c.Run(ctx, append(slices.Clone(command), path))
	})
}

// check has the part's tools run, and judges what they say.
func (p Part) check(run func(command []string) (int, string, error)) (whole bool, text, output string, err error) {
	t := tools[p.Holds]
	for _, command := range [][]string{t.prepare, t.check} {
		if command == nil {
			continue
		}
		exit, said, err := run(command)
		output += said
		switch {
		case block.Is(err, block.NotFound):
			return false, fmt.Sprintf("The %s on the %s can't be checked: %s is not installed in this zone.", p.Holds, p.Name,
				command[0]), output, nil
		case err != nil:
			return false, "", output, err
		case &command[0] == &t.check[0] && exit != 0 && t.unsure != "" && strings.Contains(said, t.unsure):
			return false, fmt.Sprintf("The %s on the %s was in use at that moment, and only mounting it replays its log: "+
				"look at it with a command.", p.Holds, p.Name), output, nil
		case &command[0] == &t.check[0] && exit != 0:
			return false, fmt.Sprintf("The %s on the %s is damaged: %s ended with status %d.", p.Holds, p.Name, command[0],
				exit), output, nil
		}
	}
	return true, fmt.Sprintf("The %s on the %s is whole.", p.Holds, p.Name), output, nil
}

// copy writes the data of a part to a file, with holes where it has zeros.
func (c Checker) copy(ctx context.Context, v Volume, p Part, path string) (err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if err := f.Truncate(p.Len); err != nil {
		return err
	}
	buf, written := make([]byte, 1<<20), int64(0)
	for e, err := range extentsOf(v, p) {
		if err != nil {
			return err
		}
		for off := max(e.Off, p.Off); !e.Zero && off < min(e.End(), p.Off+p.Len); {
			if err := ctx.Err(); err != nil {
				return err
			}
			b := buf[:min(int64(len(buf)), e.End()-off, p.Off+p.Len-off)]
			if _, err := v.ReadAt(b, off); err != nil && !errors.Is(err, io.EOF) {
				return err
			}
			if written += int64(len(b)); written > c.Most {
				return block.Errorf(block.OverLimit, "The %s on the %s has more data than the %d bytes that this zone's "+
					"drills may copy to check it.", p.Holds, p.Name, c.Most)
			}
			if _, err := f.WriteAt(b, off-p.Off); err != nil {
				return err
			}
			off += int64(len(b))
		}
	}
	return nil
}

// extentsOf tells where a volume has data, if it knows.
func extentsOf(v Volume, p Part) iter.Seq2[driver.Extent, error] {
	if er, ok := v.(driver.ExtentReader); ok {
		from := p.Off / driver.BlockSize * driver.BlockSize
		return er.Extents(from, p.Off+p.Len-from)
	}
	return func(yield func(driver.Extent, error) bool) { yield(driver.Extent{Off: p.Off, Len: p.Len}, nil) }
}
