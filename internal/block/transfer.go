package block

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"time"
)

// TransferID names a Transfer.
type TransferID string

// Transfer is an offer of a volume to whoever knows its key, in whichever
// project. It is gone once it was accepted or withdrawn.
type Transfer struct {
	ID          TransferID
	VolumeID    VolumeID
	Project     ProjectID // that offers the volume
	Name        *string
	NoSnapshots bool // the volume's snapshots stay where they are
	Lock        TransferLock
	CreatedAt   time.Time
}

// TransferLock is what is kept of a transfer's key: enough to know it again, and
// nothing that tells it.
type TransferLock struct {
	Salt, Hash string // hexadecimal digits
}

// Lengths in bytes. The key is shown as twice as many digits, 16, which is as
// long as Cinder's (cinder/transfer/api.py, volume_transfer_key_length).
const (
	transferKeySize  = 8
	transferSaltSize = 16
)

// NewTransferKey returns a random key, of digits that people can type, and the
// lock that it opens.
func NewTransferKey() (key string, lock TransferLock) {
	key, lock.Salt = randomDigits(transferKeySize), randomDigits(transferSaltSize)
	lock.Hash = lock.hash(key)
	return key, lock
}

// Opens reports whether key is the one that the lock was made with. How long it
// takes tells nothing about the key.
func (l TransferLock) Opens(key string) bool {
	return l.Hash != "" && hmac.Equal([]byte(l.Hash), []byte(l.hash(key)))
}

func (l TransferLock) hash(key string) string {
	h := hmac.New(sha256.New, []byte(l.Salt))
	h.Write([]byte(key))
	return hex.EncodeToString(h.Sum(nil))
}

func randomDigits(bytes int) string {
	p := make([]byte, bytes)
	_, _ = rand.Read(p) // it never fails (crypto/rand)
	return hex.EncodeToString(p)
}
