package control_test

import (
	"bytes"
	"testing"
	"time"

	"kvol/internal/block"
	"kvol/internal/catalog"
	"kvol/internal/control"
	"kvol/internal/keystore"
)

// TestKeyOfAnImageIsItsCallers: an image may name any secret. Whoever makes a volume of
// it gets a copy, and so has to be one who may read that secret as a key.
func TestKeyOfAnImageIsItsCallers(t *testing.T) {
	z := newZone(t)
	now := time.Time{}
	z.update(func(tx *catalog.Tx) error { now = tx.Now; return nil })
	keys := keystore.NewService(z.catalog, z.Sealer())
	vt := z.encryptedType("hushed", block.FrontEnd)
	bob := block.Caller{Project: alice.Project, User: "bob", Roles: []string{"member"}}
	key := keystore.NewSecret{Name: ptr("bobs"), ContentType: "application/octet-stream", Payload: make([]byte, 32),
		Kind: "symmetric"}
	request := control.NewVolume{Size: ptr(int64(1)), VolumeType: &vt.Name}
	with := func(change func(*keystore.NewSecret)) keystore.NewSecret { n := key; change(&n); return n }
	until := func(at time.Time) keystore.NewSecret { return with(func(n *keystore.NewSecret) { n.ExpiresAt = at }) }
	for name, tt := range map[string]struct {
		secret  keystore.NewSecret
		private bool
		who     block.Caller
		ok      bool
	}{
		"the project's":    {secret: key, who: alice, ok: true},
		"bob's, for bob":   {secret: key, private: true, who: bob, ok: true},
		"bob's, for alice": {secret: key, private: true, who: alice},
		"a password":       {secret: with(func(n *keystore.NewSecret) { n.Kind = "passphrase" }), who: alice},
		"no payload":       {secret: with(func(n *keystore.NewSecret) { n.Payload, n.ContentType = nil, "" }), who: alice},
		"expired":          {secret: until(now.Add(-time.Hour)), who: alice},
		"expires later":    {secret: until(now.Add(time.Hour)), who: alice, ok: true},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := keys.Create(z.ctx, bob, tt.secret)
			must(t, err)
			if tt.private {
				must(t, keys.SetACL(z.ctx, bob, s.ID, keystore.ACLChange{ProjectAccess: ptr(false)}, true))
			}
			id := z.images.add(control.Image{Name: "i", DiskFormat: "raw", ContainerFormat: "bare",
				Properties: map[string]string{"cinder_encryption_key_id": string(s.ID)}}, bytes.Repeat([]byte("x"), 4<<20))
			req := request
			req.ImageRef = &id
			had := len(z.secrets(alice))
			v, err := z.CreateVolume(z.ctx, tt.who, req)
			if !tt.ok {
				wantError(t, name, err, block.Invalid, "Invalid input received: The key of image "+id+" is not there.")
				z.wantSecrets("refused", had)
				return
			}
			must(t, err)
			copied, payload, err := keys.Payload(z.ctx, tt.who, v.Encryption.Key)
			if err != nil || !bytes.Equal(payload, key.Payload) || copied.Name != nil || !copied.ExpiresAt.IsZero() {
				t.Errorf("the volume's key is %+v, %v", copied, err)
			}
		})
	}
	z.work(z.ctx)
}
