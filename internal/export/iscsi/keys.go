package iscsi

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

const (
	maxKeyBytes   = 63   // RFC 7143, section 6.1
	maxValueBytes = 8192 // ours; the RFC lets simple values have 255
	maxKeys       = 128  // of one text
	maxName       = 223  // of an iSCSI name, section 4.2.7
)

// pair is one key=value of a text.
type pair struct{ key, value string }

// parseText reads the key=value pairs of a text.
func parseText(b []byte) ([]pair, error) {
	var all []pair
	for len(b) > 0 {
		one, rest, _ := bytes.Cut(b, []byte{0})
		b = rest
		if len(one) == 0 {
			continue // padding of some initiators
		}
		key, value, ok := strings.Cut(string(one), "=")
		if !ok || key == "" || len(key) > maxKeyBytes || len(value) > maxValueBytes || !utf8.ValidString(value) {
			return nil, fmt.Errorf("%w: a text that isn't key=value", errProtocol)
		}
		if len(all) == maxKeys {
			return nil, fmt.Errorf("%w: more than %d keys", errProtocol, maxKeys)
		}
		all = append(all, pair{key, value})
	}
	return all, nil
}

func appendText(b []byte, p ...pair) []byte {
	for _, p := range p {
		b = append(append(append(append(b, p.key...), '='), p.value...), 0)
	}
	return b
}

// params are what a session's two sides agreed on; see RFC 7143, section 13.
type params struct {
	headerDigest, dataDigest bool
	initialR2T, immediate    bool
	sendMax                  int // the initiator's MaxRecvDataSegmentLength
	maxBurst, firstBurst     int
	connections              int
}

// sessionKey reports whether a key is agreed on by the first connection, for all.
func sessionKey(key string) bool {
	switch key {
	case "InitialR2T", "ImmediateData", "DataPDUInOrder", "DataSequenceInOrder", "MaxBurstLength", "FirstBurstLength",
		"MaxConnections", "MaxOutstandingR2T", "ErrorRecoveryLevel", "DefaultTime2Wait", "DefaultTime2Retain",
		"TaskReporting", "iSCSIProtocolLevel":
		return true
	}
	return false
}

// What we are ready for.
const (
	receiveMax = 128 << 10 // our MaxRecvDataSegmentLength
	burstMax   = 1 << 20
	firstMax   = 128 << 10
	sendMost   = 256 << 10 // of one Data-In, whatever the initiator would take
)

func defaultParams() params {
	return params{initialR2T: true, immediate: true, sendMax: 8192, maxBurst: 262144, firstBurst: 65536,
		connections: 1}
}

// negotiate answers an offered key; the answer is "" for declarations. ok is
// false for values that can't be.
func (p *params) negotiate(key, value string) (answer string, ok bool) {
	switch key {
	case "HeaderDigest":
		return digest(value, &p.headerDigest)
	case "DataDigest":
		return digest(value, &p.dataDigest)
	case "InitialR2T":
		return yesNo(value, &p.initialR2T, func(offer bool) bool { return offer })
	case "ImmediateData":
		return yesNo(value, &p.immediate, func(offer bool) bool { return offer })
	case "DataPDUInOrder", "DataSequenceInOrder":
		return yesNo(value, new(bool), func(bool) bool { return true })
	case "IFMarker", "OFMarker":
		return yesNo(value, new(bool), func(bool) bool { return false })
	case "MaxRecvDataSegmentLength":
		n, ok := number(value, 512, 1<<24-1)
		p.sendMax = min(n, sendMost)
		return "", ok
	case "MaxBurstLength":
		return least(value, 512, 1<<24-1, burstMax, &p.maxBurst)
	case "FirstBurstLength":
		return least(value, 512, 1<<24-1, firstMax, &p.firstBurst)
	case "MaxConnections":
		return least(value, 1, 65535, maxConnections, &p.connections)
	case "MaxOutstandingR2T":
		return least(value, 1, 65535, 1, new(int))
	case "ErrorRecoveryLevel":
		return least(value, 0, 2, 0, new(int))
	case "DefaultTime2Wait":
		n, ok := number(value, 0, 3600)
		return strconv.Itoa(max(n, 2)), ok
	case "DefaultTime2Retain":
		return least(value, 0, 3600, 0, new(int))
	case "TaskReporting":
		return "RFC3720", true
	case "iSCSIProtocolLevel":
		return least(value, 0, 31, 1, new(int))
	case "IFMarkInt", "OFMarkInt", "RDMAExtensions":
		return "Irrelevant", true
	}
	if strings.HasPrefix(key, "X-") || strings.HasPrefix(key, "X#") || key != "" {
		return "NotUnderstood", true
	}
	return "", false
}

func digest(value string, on *bool) (string, bool) {
	for v := range strings.SplitSeq(value, ",") {
		switch v {
		case "CRC32C":
			*on = true
			return v, true
		case "None":
			*on = false
			return v, true
		}
	}
	return "Reject", true
}

func yesNo(value string, to *bool, choose func(offer bool) bool) (string, bool) {
	if value != "Yes" && value != "No" {
		return "", false
	}
	*to = choose(value == "Yes")
	if *to {
		return "Yes", true
	}
	return "No", true
}

func least(value string, low, high, ours int, to *int) (string, bool) {
	n, ok := number(value, low, high)
	*to = min(n, ours)
	return strconv.Itoa(*to), ok
}

// number reads a number as RFC 7143 has it, decimal or with 0x.
func number(value string, low, high int) (int, bool) {
	base, digits := 10, value
	if rest, ok := strings.CutPrefix(strings.ToLower(value), "0x"); ok {
		base, digits = 16, rest
	}
	n, err := strconv.ParseUint(digits, base, 31)
	if err != nil || int(n) < low || int(n) > high {
		return low, false
	}
	return int(n), true
}
