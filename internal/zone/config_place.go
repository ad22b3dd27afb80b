package zone

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
)

// checkPlaces refuses two stores in one place: a volume that is moved from one to the
// other would be there already, and go with what is then removed from the first.
func (c *Config) checkPlaces() error {
	at := map[string]string{}
	for _, s := range c.Stores {
		where := s.place()
		if other, taken := at[where]; taken && where != "" {
			return fmt.Errorf("stores: %s and %s are in one place, %s; backends that share it lie on one store", other, s.Name,
				where)
		}
		at[where] = s.Name
	}
	return nil
}

// place is where a store keeps its bytes; "" if that is nobody else's by nature.
func (c *StoreConfig) place() string {
	switch c.Driver {
	case "mem":
		return ""
	case "rbd":
		return fmt.Sprintf("cluster %s, pool %s, namespace %q", clusterOf(c.RBD.Conf), cmp.Or(c.RBD.Pool, "rbd"),
			c.RBD.Namespace)
	}
	return realPath(c.Dir)
}

// realPath is a path without symbolic links, as far as it is there.
func realPath(path string) string {
	if found, err := filepath.EvalSymlinks(path); err == nil {
		return found
	}
	return filepath.Clean(path)
}

var clusterSaid = regexp.MustCompile(`(?m)^\s*fsid\s*=\s*([0-9a-fA-F-]{36})\s*$`)

// clusterOf tells a Ceph cluster by the id in its ceph.conf, or by the file if there
// is none in it.
func clusterOf(conf string) string {
	text, err := os.ReadFile(conf)
	if err == nil {
		if id := clusterSaid.FindSubmatch(text); id != nil {
			return string(id[1])
		}
	}
	return realPath(conf)
}
