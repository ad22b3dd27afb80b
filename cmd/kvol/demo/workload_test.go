package demo

import (
	"bytes"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
)

func TestTreeSurvivesAndDamageIsSeen(t *testing.T) {
	var files tree
	var image []byte
	for seed := range uint64(8) {
		var err error
		path := filepath.Join(t.TempDir(), "tree.img")
		if files, err = makeImage(path, rand.New(rand.NewPCG(seed, 2))); err != nil {
			t.Fatal(err)
		}
		if image, err = os.ReadFile(path); err != nil {
			t.Fatal(err)
		}
		if len(image) != imageSize || len(files) != 32 {
			t.Fatalf("image of %d bytes with %d files", len(image), len(files))
		}
		if err := checkTree(t.TempDir(), bytes.NewReader(image), files); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
	}
	files["/dir2/file3.bin"][17] ^= 1
	if err := checkTree(t.TempDir(), bytes.NewReader(image), files); err == nil {
		t.Fatal("a changed file was not noticed")
	}
}

func TestPrefixTellsAnyOtherContent(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 4))
	var j journal
	for range 200 {
		j.writes = append(j.writes, churn{off: churnAt + rnd.Int64N(64)*blockSize})
	}
	volume := make([]byte, churnAt+churnSize)
	region := volume[churnAt:]
	for n, w := range j.writes[:150] {
		copy(region[w.off-churnAt:], w.block(n))
	}
	k, err := j.prefix(bytes.NewReader(volume))
	if err != nil || k != 150 {
		t.Fatalf("prefix %d, %v", k, err)
	}
	region[5] ^= 0x80
	if _, err := j.prefix(bytes.NewReader(volume)); err == nil {
		t.Fatal("a flipped bit was not noticed")
	}
	region[5] ^= 0x80
	copy(region[j.writes[149].off-churnAt:], make([]byte, blockSize)) // the newest one lost, older ones kept
	if k, err := j.prefix(bytes.NewReader(volume)); err == nil && k == 150 {
		t.Fatal("a lost write was not noticed")
	}
}
