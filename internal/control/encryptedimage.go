package control

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"

	"kvol/internal/block"
	"kvol/internal/driver"
	"kvol/internal/keystore"
	"kvol/internal/luks"
)

// pour writes an image's raw bytes into a volume's device, as the volume is
// encrypted.
func (s *Service) pour(ctx context.Context, v block.Volume, img Image, to driver.Device, from io.Reader,
	each func(int64) error) error {
	e, sealed := v.Encryption, img.Properties[imageKeyProperty] != ""
	if e == nil || sealed && !e.ByZone() { // an encrypted image is a container already
		_, err := stream(to, from, to.Size(), each)
		return err
	}
	key, err := s.key(ctx, e)
	if err != nil {
		return err
	}
	if !e.ByZone() {
		return fillContainer(v, key, to, from, each)
	}
	if sealed {
		if from, err = openContainer(ctx, from, key); err != nil {
			return err
		}
	}
	device, err := s.clear(ctx, v, to)
	if err != nil {
		return err
	}
	_, err = stream(device, from, device.Size(), each)
	return err
}

// fillContainer makes the LUKS container on a volume that its hosts will open,
// and encrypts all that comes into it. The rest reads as chance has it.
func fillContainer(v block.Volume, key []byte, to driver.Device, from io.Reader, each func(int64) error) error {
	master := make([]byte, len(key))
	rand.Read(master)
	header, err := luks.Format(master, keystore.Passphrase(key), string(v.ID))
	if err != nil {
		return err
	}
	c, err := luks.NewCipher(master)
	if err != nil {
		return err
	}
	payload := c.Encrypting(io.NewOffsetWriter(to, luks.HeaderSize))
	buf := make([]byte, streamChunk)
	for done := int64(0); ; {
		n, err := io.ReadFull(from, buf)
		whole := (n + luks.SectorSize - 1) / luks.SectorSize * luks.SectorSize
		if done+int64(whole) > to.Size()-luks.HeaderSize {
			return block.Errorf(block.Invalid, "The image and its LUKS header are larger than %d bytes.", to.Size())
		}
		clear(buf[n:whole])
		if _, err := payload.WriteAt(buf[:whole], done); err != nil {
			return err
		}
		done += int64(n)
		if each != nil {
			if err := each(done); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			break
		}
		if err != nil {
			return err
		}
	}
	_, err = to.WriteAt(header, 0) // last, so that nobody opens half of it
	return err
}

// openContainer reads an image's LUKS header and returns a reader of its clear
// payload.
func openContainer(ctx context.Context, from io.Reader, key []byte) (io.Reader, error) {
	const first = 4096
	header := make([]byte, first)
	if _, err := io.ReadFull(from, header); err != nil {
		return nil, notContainer(err)
	}
	h, err := luks.Parse(header)
	if err != nil {
		return nil, err
	}
	if h.PayloadOffset < first {
		return nil, notContainer(nil)
	}
	header = append(header, make([]byte, h.PayloadOffset-first)...)
	if _, err := io.ReadFull(from, header[first:]); err != nil {
		return nil, notContainer(err)
	}
	master, err := h.Unlock(ctx, bytes.NewReader(header), keystore.Passphrase(key))
	if err != nil {
		return nil, err
	}
	c, err := luks.NewCipher(master)
	if err != nil {
		return nil, err
	}
	return c.Decrypting(from), nil
}

func notContainer(err error) error {
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return err
	}
	return block.Errorf(block.Invalid, "The image has a key and is no LUKS container.")
}

// sealedImage is what an image of an encrypted volume consists of: the container
// that hosts keep on it, or one around what the zone encrypted. It reads the
// snapshot's cipher.
func (s *Service) sealedImage(ctx context.Context, v block.Volume, content io.Reader) (io.Reader, error) {
	if !v.Encryption.ByZone() {
		return content, nil
	}
	key, err := s.key(ctx, v.Encryption)
	if err != nil {
		return nil, err
	}
	header, err := luks.Format(key, keystore.Passphrase(key), string(v.ID))
	if err != nil {
		return nil, err
	}
	c, err := luks.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return io.MultiReader(bytes.NewReader(header), c.Completing(content)), nil
}
