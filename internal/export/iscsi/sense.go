package iscsi

import (
	"encoding/binary"
	"fmt"
)

// SCSI statuses.
const (
	statusGood        = 0x00
	statusCheck       = 0x02
	statusConflict    = 0x18 // with a reservation
	statusTaskSetFull = 0x28
)

// Sense keys, and additional sense codes with their qualifiers.
const (
	keyNotReady   = 0x2
	keyMedium     = 0x3
	keyIllegal    = 0x5
	keyAttention  = 0x6
	keyProtect    = 0x7
	keyAborted    = 0xb
	keyMiscompare = 0xe

	codeNotReady      = 0x0400
	codeWriteError    = 0x0c00
	codeReadError     = 0x1100
	codeLength        = 0x1a00 // parameter list length error
	codeMiscompare    = 0x1d00
	codeOpcode        = 0x2000
	codeLBA           = 0x2100
	codeField         = 0x2400 // of the CDB
	codeLUN           = 0x2500
	codeParameter     = 0x2600 // field of the parameter list
	codeReleaseWrong  = 0x2604 // invalid release of persistent reservation
	codeProtected     = 0x2700
	codeSpace         = 0x2707
	codePowerOn       = 0x2900
	codeReset         = 0x2903
	codeModeChanged   = 0x2a01
	codePreempted     = 0x2a03
	codeReleased      = 0x2a04
	codeRegistration  = 0x2a05 // registrations preempted
	codeCapacity      = 0x2a09
	codeCleared       = 0x2f00 // commands cleared by another initiator
	codeSaving        = 0x3900
	codeInconsistent  = 0x0c0d // not enough unsolicited data
	codeSequence      = 0x4705 // protocol service CRC error, used for data out of sequence
	codeRegistrations = 0x5504 // insufficient registration resources
)

// fault is a command's end other than GOOD.
type fault struct {
	status  byte
	key     byte
	code    uint16
	info    uint64
	hasInfo bool
}

func (f *fault) Error() string {
	return fmt.Sprintf("status %#x, sense %#x/%#04x", f.status, f.key, f.code)
}

func illegal(code uint16) *fault { return &fault{status: statusCheck, key: keyIllegal, code: code} }

var (
	errField     = illegal(codeField)
	errOpcode    = illegal(codeOpcode)
	errLBA       = illegal(codeLBA)
	errLUN       = illegal(codeLUN)
	errParameter = illegal(codeParameter)
	errLength    = illegal(codeLength)
	errConflict  = &fault{status: statusConflict}
	errProtected = &fault{status: statusCheck, key: keyProtect, code: codeProtected}
)

// sense makes sense data: fixed, or with descriptors where the initiator chose
// so or the information does not fit.
func (f *fault) sense(descriptors bool) []byte {
	if descriptors {
		b := []byte{0x72, f.key, byte(f.code >> 8), byte(f.code), 0, 0, 0, 0}
		if f.hasInfo {
			b[7] = 12
			b = append(b, 0, 10, 0x80, 0)
			b = binary.BigEndian.AppendUint64(b, f.info)
		}
		return b
	}
	b := make([]byte, 18)
	b[0], b[2], b[7], b[12], b[13] = 0x70, f.key, 10, byte(f.code>>8), byte(f.code)
	if f.hasInfo && f.info <= 0xffffffff {
		b[0] |= 0x80
		binary.BigEndian.PutUint32(b[3:], uint32(f.info))
	}
	return b
}
