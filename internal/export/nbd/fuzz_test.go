package nbd_test

import (
	"log/slog"
	"testing"

	"kvol/internal/driver"
	"kvol/internal/export/exporttest"
	"kvol/internal/export/nbd"
)

// talk has a server hear input.
func talk(t *testing.T, input []byte) {
	exports := newShelf(t, 1<<20)
	exports.changed = map[string][]driver.Extent{
		"monday": {{Off: 0, Len: 4096}, {Off: 12288, Len: 8192}}, "sunday": {}, "lost": nil}
	exporttest.Talk(nbd.New(nbd.Config{Exports: exports, Log: slog.New(slog.DiscardHandler)}), input)
}

// FuzzServer throws bytes at the handshake, and at transmission.
func FuzzServer(f *testing.F) {
	option := func(opt int, data ...any) []byte {
		b := be(data...)
		return be(optMagic, opt, len(b), b)
	}
	enter := be(3, option(8), option(10, named("vol"), 2, named("base:allocation"), named("kvol:changed:monday")),
		option(7, named("vol"), uint16(0)))
	one := func(cmd, flags uint16, off int64, n uint32) []byte {
		return be(reqMagic, flags, cmd, cookie(cmd), off, n)
	}
	f.Add(false, enter)
	f.Add(false, be(3, optMagic, 3, 0, optMagic, 5, 0, optMagic, 9, 11, named("vol"), 0, optMagic, 1, 3, "vol"))
	f.Add(false, be(0, optMagic, 1, 6, "vol-ro", one(0, 0, 0, 512)))
	f.Add(false, be(3, optMagic, 7, 13, named("vol"), uint16(2), uint16(1), uint16(3)))
	f.Add(true, be(one(0, 0, 5, 5000), one(1, fua, 0, 3), "abc", one(3, 0, 0, 0), one(2, 0, 0, 0)))
	f.Add(true, be(one(4, fua, 4096, 8192), one(6, noHole, 5, 70_000), one(6, fastZero, 0, 1<<20), one(5, 0, 0, 9)))
	f.Add(true, be(one(7, reqOne, 0, 1<<20), one(7, 0, 3, 99_999), one(0, df, 0, 100_000), one(99, 0, 0, 0)))
	f.Add(true, one(1, 0, 0, 1<<31))
	f.Add(false, be(3, option(8), option(9, named("vol"), 2, named("kvol:changed:"), named("kvol:")),
		option(9, named("vol"), 0)))
	f.Add(false, be(3, option(8), option(10, named("vol"), 1, named("kvol:changed:lost")),
		option(10, named("vol"), 1, named("kvol:changed:sunday")), option(10, named("vol-ro"), 3, named("x"),
			named("kvol:changed:monday"), named("kvol:changed:monday")), option(7, named("vol-ro"), uint16(0)),
		one(7, 0, 0, 1<<20), one(7, reqOne, 8192, 8192)))
	f.Fuzz(func(t *testing.T, transmission bool, data []byte) {
		if transmission {
			data = be(enter, data)
		}
		talk(t, data)
	})
}
