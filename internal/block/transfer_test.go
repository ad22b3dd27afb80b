package block

import (
	"strings"
	"testing"
)

func TestTransferKey(t *testing.T) {
	key, lock := NewTransferKey()
	again, other := NewTransferKey()
	if len(key) != 16 || key == again || lock.Salt == other.Salt {
		t.Fatalf("keys %q and %q, salts %q and %q", key, again, lock.Salt, other.Salt)
	}
	if !lock.Opens(key) || other.Opens(key) || lock.Opens("") || lock.Opens(strings.ToUpper(key)+"0") {
		t.Error("a lock opens for its own key alone")
	}
	if strings.Contains(lock.Salt+lock.Hash, key) {
		t.Error("the lock tells the key")
	}
	if (TransferLock{}).Opens("") {
		t.Error("what has no lock is open to all")
	}
}
