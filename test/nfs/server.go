package nfs

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Server is an NFS server (nfs-ganesha) that exports one directory. It runs in a
// network of its own, with a port mapper of its own, so that it needs no free
// port; its clients run there too.
type Server struct {
	dir    string // of its files
	holder *exec.Cmd
}

// Export is how the server's only export is called.
const Export = "/vol01"

// Serve exports a directory until the test ends.
func Serve(t testing.TB, share string) *Server {
	t.Helper()
	Need(t, "ganesha.nfsd", "rpcbind", "rpcinfo", "nsenter", "unshare", "ip", "nfs-cat", "nfs-cp", "qemu-io",
		"qemu-img")
	s := &Server{dir: t.TempDir()}
	// kvol renames files behind the server, which therefore has to look every time.
	config := fmt.Sprintf(`
NFS_CORE_PARAM { Protocols = 3, 4; mount_path_pseudo = true; Enable_RQUOTA = false; }
NFSV4 { Graceless = true; RecoveryRoot = %[1]q; Only_Numeric_Owners = true; Minor_Versions = 0, 1, 2; }
MDCACHE { Use_Getattr_Directory_Invalidation = true; }
EXPORT { Export_Id = 1; Attr_Expiration_Time = 0; Path = %[2]q; Pseudo = %[3]q; Access_Type = RW;
  Squash = No_Root_Squash; SecType = sys;
  Protocols = 3, 4; Transports = TCP; FSAL { Name = VFS; } }
`, s.dir, share, Export)
	conf := filepath.Join(s.dir, "ganesha.conf")
	if err := os.WriteFile(conf, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	// rpcbind goes into the background by itself, and ends with the last process of
	// the namespace, whose first one the shell is until ganesha takes its place.
	s.holder = exec.Command("unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-ec",
		`ip link set lo up; mount -t tmpfs none /run; mkdir -p /run/rpcbind /run/ganesha /run/dbus
rpcbind -w; exec ganesha.nfsd -F -f "$0" -L "$1" -p "$2" -N NIV_EVENT`,
		conf, s.path("log"), s.path("pid"))
	if err := s.holder.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = syscall.Kill(s.holder.Process.Pid, syscall.SIGKILL) // takes all in its namespace along
		_ = s.holder.Wait()
	})
	s.await(t)
	return s
}

func (s *Server) path(name string) string { return filepath.Join(s.dir, name) }

// await waits until the server answers.
func (s *Server) await(t testing.TB) {
	t.Helper()
	for range 1200 {
		if s.in(t.Context(), "rpcinfo", "-t", "127.0.0.1", "100003", "4").Run() == nil {
			return
		}
		select {
		case <-t.Context().Done():
			return
		case <-time.After(100 * time.Millisecond):
		}
	}
	log, _ := os.ReadFile(s.path("log"))
	t.Fatalf("the NFS server did not start:\n%s", log)
}

// in is a command in the server's network.
func (s *Server) in(ctx context.Context, program string, args ...string) *exec.Cmd {
	return exec.CommandContext(ctx, "nsenter", append([]string{
		fmt.Sprintf("--net=/proc/%d/ns/net", s.inner()), "--", program}, args...)...)
}

// inner is the process that unshare made.
func (s *Server) inner() int {
	pid := s.holder.Process.Pid
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	var child int
	if _, scanErr := fmt.Sscan(string(text), &child); err != nil || scanErr != nil {
		return pid
	}
	return child
}

// Run runs a client in the server's network, and returns what it printed.
func (s *Server) Run(t testing.TB, program string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	var said strings.Builder
	cmd := s.in(ctx, program, args...)
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		log, _ := os.ReadFile(s.path("log"))
		t.Fatalf("%s %q: %v\n%s%s\nthe server:\n%s", program, args, err, out, said.String(), log)
	}
	return string(out)
}

// URL is how libnfs takes a file of the export; QEMU takes it with version 3.
func (s *Server) URL(name string, version int) string {
	if version == 3 {
		return "nfs://127.0.0.1" + Export + "/" + name
	}
	return fmt.Sprintf("nfs://127.0.0.1%s/%s?version=%d", Export, name, version)
}
