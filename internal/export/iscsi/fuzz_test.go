package iscsi_test

import (
	"encoding/binary"
	"log/slog"
	"testing"

	"kvol/internal/export/exporttest"
	"kvol/internal/export/iscsi"
)

// talk has a server hear input.
func talk(t *testing.T, input []byte) {
	exporttest.Talk(iscsi.New(iscsi.Config{Targets: newShelf(t, 1<<20), Log: slog.New(slog.DiscardHandler)}), input)
}

// FuzzServer throws bytes at the login, and at the full feature phase.
func FuzzServer(f *testing.F) {
	enter := packet(loginRequest(1, 3, 1, 7), text(names(iqn)...))
	f.Add(false, enter)
	f.Add(false, packet(loginRequest(0, 1, 1, 7), text(append(names(iqn+"-chap"), "AuthMethod=CHAP", "CHAP_A=5")...)))
	f.Add(false, packet(loginRequest(1, 3, 1, 7), text("InitiatorName=x", "SessionType=Discovery", "HeaderDigest=CRC32C")))
	for _, h := range [][48]byte{
		{0: 0x40, 1: 0x80, 27: 7}, {0: 0x42, 1: 0x81, 9: 1}, {0: 0x46, 1: 0x80}, {0: 0x44, 1: 0x80}, {0: 0x05, 1: 0x80},
		{0: 0x41, 1: 0xa0, 9: 1, 22: 2, 32: 0x2a, 40: 1}, {0: 0x41, 1: 0xc0, 9: 1, 22: 2, 32: 0x28, 40: 1},
	} {
		f.Add(true, packet(h, ""))
		f.Add(true, packet(h, string(make([]byte, 512))))
	}
	f.Fuzz(func(t *testing.T, session bool, data []byte) {
		if session {
			data = append(append([]byte(nil), enter...), data...)
		}
		talk(t, data)
	})
}

// FuzzCommand throws commands at the unit: first one that takes the unit
// attention, then the fuzzed one with its data.
func FuzzCommand(f *testing.F) {
	for code := range 256 {
		cdb := make([]byte, 16)
		cdb[0], cdb[8], cdb[13] = byte(code), 1, 1
		f.Add(cdb, make([]byte, 512), uint32(512), true)
		f.Add(cdb, []byte(nil), uint32(4096), false)
	}
	f.Add([]byte{0x5f, 0, 1, 0, 0, 0, 0, 0, 24, 0}, make([]byte, 24), uint32(24), true)
	f.Add([]byte{0x42, 0, 0, 0, 0, 0, 0, 0, 24, 0}, []byte{1: 22, 3: 16, 19: 8, 23: 0}, uint32(24), true)
	f.Add([]byte{0x15, 0x10, 0, 0, 24, 0}, []byte{4: 0x0a, 5: 10, 6: 4, 23: 0}, uint32(24), true)
	f.Fuzz(func(t *testing.T, cdb, data []byte, expected uint32, write bool) {
		input := packet(loginRequest(1, 3, 1, 7), text(names(iqn)...))
		input = append(input, packet([48]byte{0: 0x41, 1: 0x80, 9: 1, 19: 1}, "")...)
		h := [48]byte{0: 0x41, 1: reads, 9: 1, 19: 2}
		if write {
			h[1] = writes
		} else {
			data = nil
		}
		binary.BigEndian.PutUint32(h[20:], expected)
		copy(h[32:], cdb[:min(len(cdb), 16)])
		input = append(input, packet(h, string(data[:min(len(data), 64<<10)]))...)
		ping := [48]byte{0: 0x40, 1: 0x80, 19: 3, 20: 0xff, 21: 0xff, 22: 0xff, 23: 0xff}
		talk(t, append(input, packet(ping, "")...))
	})
}
