package nfs

import (
	"fmt"
	"path"
	"strconv"
	"strings"

	"kvol/internal/block"
)

// place is a file of the share, by its path from the top of it; "" is nowhere.
type place string

const (
	ownDir     = ".kvol"
	livePrefix = "volume-"
	newPrefix  = "new-"
	formatFile = ownDir + "/format"
	lockFile   = ownDir + "/lock"
	volumesDir = ownDir + "/volumes" // one directory for each volume that has snapshots
	// layerPrefix is that of layers, which lie beside the volumes: their headers
	// name each other by file, and hosts may have to follow.
	layerPrefix = "layer-"
	lendingFile = "lending" // in the directory of a volume that hosts may have open
)

// maxName is how long an id may be in a file's name; entries have two of them,
// and file systems take 255 bytes.
const maxName = 150

// encode makes a part of a file's name of an id: letters, digits and "-" stay,
// all else becomes "_" and two digits. So no id can name another directory.
func encode(id string) (string, error) {
	var b strings.Builder
	for _, c := range []byte(id) {
		if plain(c) {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "_%02x", c)
		}
	}
	if b.Len() == 0 || b.Len() > maxName {
		return "", block.Errorf(block.Invalid, "%.20q can't name a file: it has 0 or too many letters", id)
	}
	return b.String(), nil
}

func plain(c byte) bool {
	return c == '-' || '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
}

// decode undoes encode; what encode would not have made is refused.
func decode(name string) (id string, ok bool) {
	var b strings.Builder
	for i := 0; i < len(name); i++ {
		switch {
		case plain(name[i]):
			b.WriteByte(name[i])
		case name[i] == '_' && i+2 < len(name):
			c, err := strconv.ParseUint(name[i+1:i+3], 16, 8)
			if err != nil {
				return "", false
			}
			b.WriteByte(byte(c))
			i += 2
		default:
			return "", false
		}
	}
	again, err := encode(b.String())
	return b.String(), err == nil && again == name
}

// liveName is that of a volume's file in the share.
func liveName(id block.VolumeID) (place, error) {
	name, err := encode(string(id))
	return place(livePrefix + name), err
}

func liveID(name string) (block.VolumeID, bool) {
	rest, ours := strings.CutPrefix(name, livePrefix)
	if !ours {
		return "", false
	}
	id, ok := decode(rest)
	return block.VolumeID(id), ok
}

// entry is a snapshot's file in the directory of its volume: the bytes of a raw
// volume, or, of a layered one, an empty file that names a layer.
type entry struct {
	seq   uint64 // rises with time
	name  block.PointID
	layer string
}

// file is an entry's name: <seq>.<name> or <seq>.<name>.<layer>.
func (e entry) file() (string, error) {
	name, err := encode(string(e.name))
	text := fmt.Sprintf("%016x.%s", e.seq, name)
	if e.layer != "" {
		text += "." + e.layer
	}
	return text, err
}

func parseEntry(file string) (e entry, ok bool) {
	parts := strings.Split(file, ".")
	if len(parts) < 2 || len(parts) > 3 || len(parts[0]) != 16 {
		return entry{}, false
	}
	seq, err := strconv.ParseUint(parts[0], 16, 64)
	name, named := decode(parts[1])
	if err != nil || !named {
		return entry{}, false
	}
	e = entry{seq: seq, name: block.PointID(name)}
	if len(parts) == 3 {
		if !isLayer(parts[2]) {
			return entry{}, false
		}
		e.layer = parts[2]
	}
	again, err := e.file()
	return e, err == nil && again == file
}

// isLayer says whether a name can be that of a layer: a UUID.
func isLayer(name string) bool {
	id, ok := block.ParseID(name)
	return ok && id == name
}

// at is where a snapshot's bytes are.
func (e entry) at(dir string) (place, error) {
	if e.layer != "" {
		return layerAt(e.layer), nil
	}
	file, err := e.file()
	return place(path.Join(dir, file)), err
}

func layerAt(layer string) place { return place(layerPrefix + layer) }

// newAt is the place of a file that is not there for anybody yet.
func newAt() place { return place(path.Join(ownDir, newPrefix+block.NewID())) }

// entriesDir is where a volume's entries are.
func entriesDir(id block.VolumeID) (string, error) {
	name, err := encode(string(id))
	return path.Join(volumesDir, name), err
}
