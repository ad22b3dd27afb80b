package image

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"strings"

	"kvol/internal/api"
	"kvol/internal/block"
	"kvol/internal/catalog"
)

// Config is what an image service starts with.
type Config struct {
	Dir       string // where the bytes lie; made if it is missing; nothing else may lie there
	PublicURL string // how users reach the zone; taken from each request if empty
	Prefix    string // where Handler is mounted; "/image" if empty

	MaxSize int64 // bytes of one image; 1 TiB if zero
	MaxAll  int64 // bytes of all images of a project; no limit if zero

	Authenticator api.Authenticator // tells Handler whose token it is
	Unauthorized  http.Handler      // answers requests without a good token; a bare 401 if nil

	// Elsewhere says that another process of the zone has the directory: this one
	// knows the images and leaves their bytes alone.
	Elsewhere bool

	Log *slog.Logger // discarded if nil
}

// defaultMaxSize is Glance's image_size_cap, 1 TiB.
const defaultMaxSize = int64(1) << 40

// The statuses of an image. Glance's "killed" is never set here: an upload
// that fails leaves its image queued, so that it may be tried again.
const (
	queued      = "queued"
	saving      = "saving"
	active      = "active"
	deactivated = "deactivated"
)

// Service is the embedded image service. Its methods may be called at once.
type Service struct {
	catalog *catalog.Catalog
	config  Config
	log     *slog.Logger
}

// New opens an image service: it makes its directory and clears away what a
// crash left there. No other process may use the same directory.
func New(ctx context.Context, c *catalog.Catalog, config Config) (*Service, error) {
	if c == nil || config.Dir == "" {
		return nil, errors.New("image: a catalog and a directory are needed")
	}
	if config.MaxSize == 0 {
		config.MaxSize = defaultMaxSize
	}
	if config.Prefix == "" {
		config.Prefix = "/image"
	}
	config.Prefix = "/" + strings.Trim(config.Prefix, "/")
	if config.Log == nil {
		config.Log = slog.New(slog.DiscardHandler)
	}
	s := &Service{catalog: c, config: config, log: config.Log}
	if config.Elsewhere {
		return s, nil
	}
	if err := os.MkdirAll(config.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("image: %w", err)
	}
	if err := s.sweep(ctx); err != nil {
		return nil, fmt.Errorf("image: clear away what a crash left: %w", err)
	}
	return s, nil
}

// sees reports whether a caller may know of an image.
func sees(c block.Caller, i catalog.Image) bool {
	return c.Admin() || i.Owner == c.Project || i.Visibility == "public" || i.Visibility == "community"
}

// get returns an image that the caller sees; NotFound otherwise.
func (s *Service) get(ctx context.Context, c block.Caller, id string) (i catalog.Image, err error) {
	err = s.catalog.View(ctx, func(tx *catalog.Tx) error {
		i, err = visible(tx, c, id)
		return err
	})
	return i, err
}

func visible(tx *catalog.Tx, c block.Caller, id string) (catalog.Image, error) {
	i, err := tx.Image(block.ImageID(id))
	if err == nil && !sees(c, i) {
		err = block.Errorf(block.NotFound, "Failed to find image %s", id)
	}
	if err != nil {
		return catalog.Image{}, err
	}
	return i, nil
}

// own is visible for those who want to change an image: Forbidden unless it
// belongs to the caller's project or the caller is an administrator.
func own(tx *catalog.Tx, c block.Caller, id, what string) (catalog.Image, error) {
	i, err := visible(tx, c, id)
	if err != nil {
		return i, err
	}
	if c.ReadOnly() || !c.Admin() && i.Owner != c.Project {
		return i, block.Errorf(block.Forbidden, "You are not permitted to %s this image.", what)
	}
	return i, nil
}

// change lets fn change an image in a transaction and returns what became of
// it.
func (s *Service) change(ctx context.Context, c block.Caller, id string, fn func(i *catalog.Image) error) (
	i catalog.Image, err error) {
	err = s.catalog.Update(ctx, func(tx *catalog.Tx) error {
		if i, err = own(tx, c, id, "modify"); err != nil {
			return err
		}
		if err := fn(&i); err != nil {
			return err
		}
		i.UpdatedAt = tx.Now
		return tx.UpdateImage(i)
	})
	return i, err
}

// create adds an image that waits for its bytes. i.ID is made if it is empty.
func (s *Service) create(ctx context.Context, c block.Caller, i catalog.Image) (catalog.Image, error) {
	if c.ReadOnly() {
		return i, block.Errorf(block.Forbidden, "You are not authorized to complete add_image action.")
	}
	if i.ID == "" {
		i.ID = block.ImageID(block.NewID())
	}
	if i.Owner == "" {
		i.Owner = c.Project
	}
	if i.Visibility == "" {
		i.Visibility = "shared" // Glance's default: private until it is given to somebody
	}
	if err := check(c, i); err != nil {
		return i, err
	}
	i.Status = queued
	err := s.catalog.Update(ctx, func(tx *catalog.Tx) error {
		i.CreatedAt, i.UpdatedAt = tx.Now, tx.Now
		return tx.InsertImage(i)
	})
	return i, err
}

// keyProperty says by which key an encrypted image is opened.
const keyProperty = "cinder_encryption_key_id"

// deleteKey removes the key that was made for an encrypted image that is gone
// (glance/location.py, cinder_encryption_key_deletion_policy). One that is in
// use otherwise, also by another image, or another project's, stays.
func deleteKey(tx *catalog.Tx, i catalog.Image) error {
	id := i.Properties[keyProperty]
	if id == "" || i.Properties["cinder_encryption_key_deletion_policy"] != "on_image_deletion" {
		return nil
	}
	others, err := tx.Images(catalog.ImageQuery{All: true, Community: true, Filters: map[string]string{keyProperty: id},
		Limit: 1})
	if len(others) > 0 || err != nil {
		return err
	}
	key, err := tx.Secret(block.SecretID(id))
	if err == nil && key.Project == i.Owner {
		err = tx.DeleteSecret(key.ID)
	}
	if block.Is(err, block.NotFound) || block.Is(err, block.Conflict) {
		return nil
	}
	return err
}

// delete removes an image and then its file; one that a crash leaves behind
// is removed at the next start.
func (s *Service) delete(ctx context.Context, c block.Caller, id string) error {
	var gone catalog.Image
	err := s.catalog.Update(ctx, func(tx *catalog.Tx) (err error) {
		if gone, err = own(tx, c, id, "delete"); err != nil {
			return err
		}
		if gone.Protected {
			return block.Errorf(block.Forbidden, "Image %s is protected and cannot be deleted.", id)
		}
		if err := tx.DeleteImage(gone.ID); err != nil {
			return err
		}
		return deleteKey(tx, gone)
	})
	if err != nil || gone.Upload == "" || gone.Status == saving { // who uploads finds it gone and tidies up
		return err
	}
	if err := os.Remove(s.file(gone)); err != nil && !errors.Is(err, os.ErrNotExist) {
		s.log.WarnContext(ctx, "the file of a deleted image stays until the next start", "image", id, "err", err)
	}
	return nil
}
