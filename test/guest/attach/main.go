// Command attach gives the kernel of an emulated guest an NBD export as
// /dev/nbd0: "attach HOST:PORT EXPORT DEVICE". It speaks the handshake, leaves
// the connection to the kernel and returns when that lets go of it.
package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// Requests of linux/nbd.h.
const (
	setSocket    = 0xab00
	setBlockSize = 0xab01
	doIt         = 0xab03
	setBlocks    = 0xab07
	setFlags     = 0xab0a
)

const (
	blockSize     = 512
	optionGo      = 7
	replyAck      = 1
	replyInfo     = 3
	flagsFixedAll = 3 // fixed newstyle without zeros
)

func main() {
	if err := run(os.Args[1], os.Args[2], os.Args[3]); err != nil {
		fmt.Println("ATTACH-FAILED", err)
		os.Exit(1)
	}
}

func run(address, export, device string) error {
	c, err := net.Dial("tcp", address)
	if err != nil {
		return err
	}
	size, flags, err := negotiate(c, export)
	if err != nil {
		return err
	}
	socket, err := c.(*net.TCPConn).File()
	if err != nil {
		return err
	}
	dev, err := os.OpenFile(device, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	for _, call := range []struct {
		request uint
		value   int
	}{
		{setBlockSize, blockSize}, {setBlocks, int(size / blockSize)}, {setFlags, int(flags)},
		{setSocket, int(socket.Fd())}, {doIt, 0},
	} {
		if err := unix.IoctlSetInt(int(dev.Fd()), call.request, call.value); err != nil {
			return fmt.Errorf("ioctl %#x: %w", call.request, err)
		}
	}
	return nil
}

// negotiate goes into transmission and returns the export's size and flags.
func negotiate(c net.Conn, export string) (size uint64, flags uint16, err error) {
	hello := make([]byte, 18)
	if _, err := io.ReadFull(c, hello); err != nil {
		return 0, 0, err
	}
	be := binary.BigEndian
	b := be.AppendUint32(nil, flagsFixedAll)
	b = append(b, "IHAVEOPT"...)
	b = be.AppendUint32(b, optionGo)
	b = be.AppendUint32(b, uint32(4+len(export)+2))
	b = be.AppendUint32(b, uint32(len(export)))
	b = append(append(b, export...), 0, 0)
	if _, err := c.Write(b); err != nil {
		return 0, 0, err
	}
	for {
		head := make([]byte, 20)
		if _, err := io.ReadFull(c, head); err != nil {
			return 0, 0, err
		}
		data := make([]byte, be.Uint32(head[16:]))
		if _, err := io.ReadFull(c, data); err != nil {
			return 0, 0, err
		}
		switch kind := be.Uint32(head[12:]); {
		case kind == replyAck:
			return size, flags, nil
		case kind == replyInfo && len(data) == 12 && be.Uint16(data) == 0:
			size, flags = be.Uint64(data[2:]), be.Uint16(data[10:])
		case kind != replyInfo:
			return 0, 0, errors.New("refused: " + string(data))
		}
	}
}
