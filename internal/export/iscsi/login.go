package iscsi

import (
	"bufio"
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"

	"kvol/internal/block"
)

// Login statuses of section 11.13.5: class and detail.
const (
	loginInitiatorError = 0x0200
	loginAuthentication = 0x0201
	loginForbidden      = 0x0202
	loginNotFound       = 0x0203
	loginVersion        = 0x0205
	loginTooMany        = 0x0206
	loginMissing        = 0x0207
	loginSessionType    = 0x0209
	loginNoSession      = 0x020a
	loginTargetError    = 0x0300
	loginUnavailable    = 0x0301
)

const (
	stageSecurity    = 0
	stageOperational = 1
	stageFull        = 3

	loginMax    = 8192 // bytes of a data segment during login
	loginPDUs   = 32   // in one login
	loginText   = 32 << 10
	portalGroup = "1"
	noStage     = -1
)

// login is a login under way, and what it led to.
type login struct {
	s    *Server
	conn net.Conn
	in   *input

	first     header // the first request
	stage     int    // of the last request
	named     bool   // the names were read
	discovery bool
	initiator string
	iqn       string
	isid      string
	creds     Credentials
	chap      *chap // chosen by AuthMethod; nil before
	proven    bool  // the initiator may go on
	declared  bool  // our MaxRecvDataSegmentLength was sent
	params    params
	text      []byte // of requests that continue
	statSN    uint32

	target   Target
	*session // nil before it is opened
	member   *member
}

// key names an initiator port's session at a target.
func (l *login) key() string { return strings.Join([]string{l.iqn, l.initiator, l.isid}, "\x00") }

// cid is the number of a connection within its session.
func (l *login) cid() uint16 { return uint16(l.first[20])<<8 | uint16(l.first[21]) }

// handle is the session that an initiator wants to add a connection to; 0 for a
// new one.
func (l *login) handle() uint16 { return uint16(l.first[14])<<8 | uint16(l.first[15]) }

// refusal ends a login with a status.
type refusal struct {
	status int
	cause  error
}

func (r *refusal) Error() string { return fmt.Sprintf("login refused: %#04x: %v", r.status, r.cause) }

func refuse(status int, format string, args ...any) error {
	return &refusal{status, fmt.Errorf(format, args...)}
}

// login takes a connection to the full feature phase.
func (s *Server) login(ctx context.Context, nc net.Conn) (*login, error) {
	ctx, cancel := context.WithTimeout(ctx, s.limits.Login)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { nc.Close() })
	defer stop()
	l := &login{s: s, conn: nc, params: defaultParams(), stage: noStage, statSN: 1}
	l.in = &input{in: bufio.NewReaderSize(nc, loginMax+4096), max: loginMax}
	for range loginPDUs {
		p, err := l.in.next()
		if err != nil {
			return l, err
		}
		done, err := l.request(ctx, &p)
		var r *refusal
		if errors.As(err, &r) {
			_ = l.respond(&p, 0, r.status, nil) // it is refused anyway
			_, _ = io.CopyN(io.Discard, nc, 1)  // so that the answer arrives: the initiator hangs up
		}
		if err != nil || done {
			return l, err
		}
	}
	return l, fmt.Errorf("%w: a login of more than %d requests", errProtocol, loginPDUs)
}

// request answers one login request; done says that it was the last.
func (l *login) request(ctx context.Context, p *pdu) (done bool, err error) {
	if p.opcode() != opLogin {
		return false, fmt.Errorf("%w: opcode %#x during login", errProtocol, p.opcode())
	}
	stage, next := int(p.header[1]>>2&3), int(p.header[1]&3)
	transit, more := p.final(), p.header[1]&continueBit != 0
	switch {
	case p.header[3] != 0:
		return false, refuse(loginVersion, "version %d", p.header[3])
	case stage > stageOperational, stage < l.stage, transit && (more || next <= stage || next == 2):
		return false, refuse(loginInitiatorError, "from stage %d to %d", stage, next)
	}
	if l.stage == noStage {
		l.first = p.header
		l.isid = hex.EncodeToString(p.header[8:14])
	}
	l.stage = stage
	l.text = append(l.text, p.data...)
	if len(l.text) > loginText {
		return false, refuse(loginInitiatorError, "a text of %d bytes", len(l.text))
	}
	if more {
		return false, l.respond(p, byte(stage<<2), 0, nil)
	}
	keys, err := parseText(l.text)
	if err != nil {
		return false, &refusal{loginInitiatorError, err}
	}
	l.text = nil
	answer, err := l.answer(ctx, keys)
	if err != nil {
		return false, err
	}
	flags := byte(stage << 2)
	if !transit || !l.proven {
		return false, l.respond(p, flags, 0, answer)
	}
	if next == stageFull {
		if err := l.open(ctx); err != nil {
			return false, err
		}
	}
	err = l.respond(p, flags|finalBit|byte(next), 0, answer)
	return next == stageFull, err
}

// answer makes the text that answers keys.
func (l *login) answer(ctx context.Context, keys []pair) (out []byte, err error) {
	if !l.named {
		if err := l.names(ctx, keys); err != nil {
			return nil, err
		}
		l.named = true
		if !l.discovery {
			out = appendText(out, pair{"TargetPortalGroupTag", portalGroup})
		}
	}
	if l.stage == stageSecurity {
		security, err := l.security(keys)
		out = appendText(out, security...)
		return out, err
	}
	if !l.proven {
		return nil, refuse(loginAuthentication, "no authentication")
	}
	for _, k := range keys {
		if nameKey(k.key) {
			continue
		}
		if l.handle() != 0 && sessionKey(k.key) { // said when the session began
			out = appendText(out, pair{k.key, "Reject"})
			continue
		}
		answer, ok := l.params.negotiate(k.key, k.value)
		if !ok {
			return nil, refuse(loginInitiatorError, "%s=%s", k.key, k.value)
		}
		if answer != "" {
			out = appendText(out, pair{k.key, answer})
		}
	}
	if !l.declared {
		l.declared = true
		out = appendText(out, pair{"MaxRecvDataSegmentLength", strconv.Itoa(receiveMax)})
	}
	if len(out) > loginMax {
		return nil, refuse(loginInitiatorError, "too many keys")
	}
	return out, nil
}

func nameKey(key string) bool {
	switch key {
	case "InitiatorName", "InitiatorAlias", "TargetName", "SessionType", "AuthMethod":
		return true
	}
	return strings.HasPrefix(key, "CHAP_")
}

// names reads who wants what, and finds out what has to be proven.
func (l *login) names(ctx context.Context, keys []pair) error {
	for _, k := range keys {
		switch k.key {
		case "InitiatorName":
			l.initiator = strings.ToLower(k.value)
		case "TargetName":
			l.iqn = strings.ToLower(k.value)
		case "SessionType":
			if k.value != "Normal" && k.value != "Discovery" {
				return refuse(loginSessionType, "session type %q", k.value)
			}
			l.discovery = k.value == "Discovery"
		}
	}
	if l.initiator == "" || len(l.initiator) > maxName || !l.discovery && l.iqn == "" || len(l.iqn) > maxName {
		return refuse(loginMissing, "no names")
	}
	if l.discovery {
		l.creds = l.s.discovery
		l.proven = l.creds.Secret == ""
		return nil
	}
	var err error
	if l.creds, err = l.s.targets.Credentials(ctx, l.iqn, l.initiator); err != nil {
		return refused(err)
	}
	l.proven = l.creds.Secret == ""
	return nil
}

// refused maps an error of Targets.
func refused(err error) error {
	status := loginTargetError
	switch block.KindOf(err) {
	case block.NotFound:
		status = loginNotFound
	case block.Forbidden, block.Unauthorized:
		status = loginForbidden
	case block.Unavailable, block.Conflict:
		status = loginUnavailable
	}
	return &refusal{status, err}
}

// security answers the keys of the security stage.
func (l *login) security(keys []pair) ([]pair, error) {
	had := map[string]string{}
	for _, k := range keys {
		had[k.key] = k.value
	}
	if offered, ok := had["AuthMethod"]; ok {
		method := "None"
		if l.creds.Secret != "" {
			method, l.chap = "CHAP", &chap{}
		}
		if !slices.Contains(strings.Split(offered, ","), method) {
			return nil, refuse(loginAuthentication, "%s is not offered", method)
		}
		return []pair{{"AuthMethod", method}}, nil
	}
	if offered, ok := had["CHAP_A"]; ok && l.chap != nil {
		answer, ok := l.chap.begin(offered)
		if !ok {
			return nil, refuse(loginAuthentication, "no CHAP algorithm in common")
		}
		return answer, nil
	}
	if _, ok := had["CHAP_R"]; ok && l.chap != nil {
		answer, ok := l.chap.finish(had, l.creds)
		if !ok {
			return nil, refuse(loginAuthentication, "CHAP failed")
		}
		l.proven = true
		return answer, nil
	}
	return nil, nil
}

// open makes the session: one that the same initiator port had is ended first.
// Or it makes the connection one more of a session.
func (l *login) open(ctx context.Context) (err error) {
	if l.handle() != 0 {
		return l.joinSession(ctx)
	}
	l.params.firstBurst = min(l.params.firstBurst, l.params.maxBurst)
	s, m := newSession(l, l.s.limits)
	if l.discovery {
		s.tsih = l.s.sessions.number()
		l.session, l.member = s, m
		return nil
	}
	if err = l.s.sessions.enter(ctx, s); err != nil {
		return refused(block.Wrap(block.Unavailable, err, "An earlier session has not ended yet."))
	}
	l.session, l.member = s, m // which Server.leave ends from now on
	if s.target, err = l.s.targets.Open(ctx, l.iqn, l.initiator); err != nil {
		return refused(err)
	}
	s.target.Unit = cmp.Or(s.target.Unit, l.iqn)
	l.target = s.target
	s.size.Store(s.target.Device.Size())
	if err := l.s.units.join(ctx, l.s, s); err != nil {
		return refused(block.Wrap(block.Internal, err, "The unit's reservations can't be read."))
	}
	return nil
}

// joinSession adds the connection to the session that it names. What was agreed
// on for all connections holds for it too.
func (l *login) joinSession(ctx context.Context) error {
	s := l.s.sessions.find(l.key(), l.handle())
	if s == nil || l.discovery {
		return refuse(loginNoSession, "no such session")
	}
	m, err := s.add(ctx, l.cid(), func() { l.conn.Close() })
	if err != nil {
		return err
	}
	own := l.params
	l.params = s.params
	l.params.headerDigest, l.params.dataDigest, l.params.sendMax = own.headerDigest, own.dataDigest, own.sendMax
	l.session, l.member, l.target = s, m, s.target
	return nil
}

func (l *login) respond(p *pdu, flags byte, status int, text []byte) error {
	var h header
	h[0], h[1] = opLoggedIn, flags
	copy(h[8:14], p.header[8:14])
	expected, last := p.cmdSN(), p.cmdSN()+uint32(l.s.limits.Commands)-1
	if l.session != nil {
		h[14], h[15] = byte(l.tsih>>8), byte(l.tsih)
		expected, last = l.window.expects()
	}
	h.put(16, p.tag())
	h.put(24, l.statSN)
	h.put(28, expected)
	h.put(32, last)
	h[36], h[37] = byte(status>>8), byte(status)
	h.setLength(len(text))
	l.statSN++
	out := append(h[:], text...)
	out = append(out, make([]byte, padded(len(text))-len(text))...)
	_, err := l.conn.Write(out)
	return err
}
