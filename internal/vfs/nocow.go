package vfs

import (
	"os"

	"golang.org/x/sys/unix"
)

// noCopyOnWrite is FS_NOCOW_FL of Linux's linux/fs.h.
const noCopyOnWrite = 0x00800000

// NoCopyOnWrite tells a file system that would write changed bytes to another
// place (btrfs) to overwrite them where they are, for all files and directories
// that are made in dir from now on. It does nothing on file systems that do so
// anyway.
func (System) NoCopyOnWrite(dir string) error {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return wrapPath("statfs", dir, err)
	}
	if int64(st.Type) != unix.BTRFS_SUPER_MAGIC {
		return nil
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	flags, err := unix.IoctlGetInt(int(d.Fd()), unix.FS_IOC_GETFLAGS)
	if err == nil && flags&noCopyOnWrite == 0 {
		err = unix.IoctlSetPointerInt(int(d.Fd()), unix.FS_IOC_SETFLAGS, flags|noCopyOnWrite)
	}
	return wrapPath("ioctl", dir, err)
}
