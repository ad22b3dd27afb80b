package zone

import (
	"fmt"
	"io/fs"
	"strconv"
	"strings"

	"kvol/internal/driver/nfs"
)

// NFSConfig says how a store's directory, its dir, is exported to hosts, and how
// files are made there.
type NFSConfig struct {
	Mounted        bool    `yaml:"mounted"`          // dir has to be a mount point
	Format         string  `yaml:"format"`           // raw or qcow2; by the file system if empty
	Export         string  `yaml:"export"`           // how hosts mount dir, "192.0.2.1:/vol01"; they don't if empty
	MountOptions   string  `yaml:"mount_options"`    // what they pass to mount, "-o vers=4.2"
	MountPointBase string  `yaml:"mount_point_base"` // below which os-brick mounts it; /var/lib/cinder/mnt if empty
	LendQCOW2      bool    `yaml:"lend_qcow2"`       // hosts open qcow2 files too, which can't be snapshotted meanwhile
	UID            int     `yaml:"uid"`              // of the files that hosts open
	GID            int     `yaml:"gid"`
	Mode           string  `yaml:"mode"`       // of these files, octal; 0660 if empty
	Overcommit     float64 `yaml:"overcommit"` // how often the share's size its volumes may have together; 0: any
}

func (c NFSConfig) mode() (fs.FileMode, error) {
	if c.Mode == "" {
		return 0, nil
	}
	n, err := strconv.ParseUint(c.Mode, 8, 9)
	return fs.FileMode(n), err
}

func (c NFSConfig) check() error {
	server, path, _ := strings.Cut(c.Export, ":/")
	switch _, err := c.mode(); {
	case c.Format != "" && c.Format != string(nfs.Raw) && c.Format != string(nfs.QCOW2):
		return fmt.Errorf("nfs.format: %q is neither raw nor qcow2", c.Format)
	case c.Export != "" && (server == "" || path == "" || strings.ContainsAny(c.Export, " \t\n")):
		return fmt.Errorf("nfs.export: %q is not of the form 192.0.2.1:/vol01", c.Export)
	case err != nil:
		return fmt.Errorf("nfs.mode: %q is no octal mode, such as 0660", c.Mode)
	case c.UID < 0 || c.GID < 0:
		return fmt.Errorf("nfs.uid, nfs.gid: they can't be negative")
	case c.Overcommit != 0 && c.Overcommit < 1:
		return fmt.Errorf("nfs.overcommit: %v is below 1: it is a multiple of the share's size", c.Overcommit)
	}
	return nil
}

// options are what the driver is opened with; c was checked.
func (c NFSConfig) options(dir string) nfs.Options {
	mode, _ := c.mode()
	return nfs.Options{Dir: dir, Mounted: c.Mounted, Format: nfs.Format(c.Format), Export: c.Export,
		MountOptions: c.MountOptions, MountPointBase: c.MountPointBase,
		LendLayered: c.LendQCOW2, UID: c.UID, GID: c.GID, Mode: mode,
		Overcommit: c.Overcommit}
}
