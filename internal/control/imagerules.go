package control

import (
	"bytes"
	"errors"
	"io"
	"os"
	"strings"

	"kvol/internal/imagehead"
)

// imageTypeProperty is the property of an image that names the type of volumes
// that are made of it, unless who makes them names another
// (cinder/volume/flows/api/create_volume.py).
const imageTypeProperty = "cinder_img_volume_type"

// askedType is the type that a new volume is asked to have: by who makes it, or by
// its image. Nil for any.
func askedType(req NewVolume, image *Image) *string {
	if image == nil || req.VolumeType != nil && *req.VolumeType != "" {
		return req.VolumeType
	}
	if name := image.Properties[imageTypeProperty]; name != "" {
		return &name
	}
	return req.VolumeType
}

// checkSigned refuses an image with a signature, which nothing here can verify,
// unless those are taken unverified.
func (s *Service) checkSigned(img Image) error {
	if s.cfg.TakeSigned {
		return nil
	}
	for name := range img.Properties {
		if strings.HasPrefix(name, "img_signature") {
			return invalidInput("Image %s is signed, and its signature can't be verified here.", img.ID)
		}
	}
	return nil
}

// rawOnly reads an image that is said to be raw, and refuses one that begins as
// those of another format do: a server would find no disk on the volume.
func rawOnly(from io.Reader, format string) (io.Reader, error) {
	head := make([]byte, imagehead.Size)
	n, err := io.ReadFull(from, head)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, err
	}
	return io.MultiReader(bytes.NewReader(head[:n]), from), imagehead.Check(head[:n], format)
}

// checkHead is rawOnly for a file of another format, before qemu-img sees it.
func checkHead(path, format string) (err error) {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer closing(&err, f.Close)
	head := make([]byte, imagehead.Size)
	n, err := io.ReadFull(f, head)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return err
	}
	return imagehead.Check(head[:n], format)
}
