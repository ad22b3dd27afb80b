package iscsi

import (
	"fmt"
	"strings"
)

// Task management functions and their responses, sections 11.5 and 11.6.
const (
	manageAbortTask    = 1
	manageAbortTaskSet = 2
	manageClearTaskSet = 4
	manageLUNReset     = 5
	manageWarmReset    = 6
	manageColdReset    = 7
	manageReassign     = 8

	managedComplete    = 0
	managedNoTask      = 1
	managedNoLUN       = 2
	managedNoReassign  = 4
	managedUnsupported = 5
)

const asyncDropAll = 2 // the connection will be dropped

// manage carries out a task management function. Its answer waits for what it
// aborted.
func (c *conn) manage(p *pdu, numbered bool) {
	function, tag, lun := p.header[1]&0x7f, p.transferTag(), p.lun()
	r := newReply(1)
	r.command = numbered
	h := &r.pdus[0].header
	h[0], h[1], r.pdus[0].status = opManaged, finalBit, true
	h.put(16, p.tag())
	if function != manageAbortTask && function <= manageLUNReset && !c.ours(lun) {
		h[2] = managedNoLUN
		c.out.leave(r)
		return
	}
	var late aborted
	switch function {
	case manageAbortTask:
		begun, found := c.abort(func(t *task) bool { return t.tag == tag })
		if !found {
			h[2] = managedNoTask // was answered: on one connection nothing comes late
		}
		if len(begun) > 0 {
			late = aborted{{c, begun}}
		}
	case manageAbortTaskSet:
		late, _ = c.session.abort(nil)
	case manageClearTaskSet, manageLUNReset, manageWarmReset, manageColdReset:
		if function != manageClearTaskSet {
			c.unit.reset(c.session)
		}
		late = c.unit.abort(c.session, func(*session) bool { return true })
	case manageReassign:
		h[2] = managedNoReassign
	default:
		h[2] = managedUnsupported
	}
	if len(late) == 0 {
		c.out.leave(r)
		return
	}
	c.answers.Go(func() {
		late.await()
		c.out.send(r)
	})
}

// pong answers a ping.
func (c *conn) pong(p *pdu, numbered bool) *reply {
	r := newReply(1)
	r.command = numbered
	o := &r.pdus[0]
	o.header[0], o.header[1], o.status = opNopIn, finalBit, true
	copy(o.header[8:16], p.header[8:16])
	o.put(16, p.tag())
	o.put(20, noTag)
	o.set(append([]byte(nil), p.data[:min(len(p.data), c.params.sendMax)]...), c.params.dataDigest)
	return r
}

func (c *conn) reject(p *pdu, reason byte) *reply {
	r := newReply(1)
	o := &r.pdus[0]
	o.header[0], o.header[1], o.header[2], o.status = opReject, finalBit, reason, true
	o.put(16, noTag)
	o.set(append([]byte(nil), p.header[:]...), c.params.dataDigest)
	return r
}

func (c *conn) async(event byte) *reply {
	r := newReply(1)
	o := &r.pdus[0]
	o.header[0], o.header[1], o.header[36], o.status = opAsync, finalBit, event, true
	o.put(16, noTag)
	return r
}

// logout answers a logout and ends the connection.
func (c *conn) logout(p *pdu, numbered bool) error {
	r := newReply(1)
	r.command = numbered
	o := &r.pdus[0]
	o.header[0], o.header[1], o.status = opLoggedUp, finalBit, true
	o.put(16, p.tag())
	reason, cid := p.header[1]&0x7f, uint16(p.header[20])<<8|uint16(p.header[21])
	switch {
	case reason > 1 || c.discovery && reason != 0:
		o.header[2] = 2 // recovery isn't supported
		c.out.leave(r)
		return nil
	case reason == 1 && cid != c.member.cid:
		if !c.session.endOther(c.member, cid) {
			o.header[2] = 1 // there is no such connection
		}
		c.out.leave(r)
		return nil
	}
	c.member.alone.Store(reason == 1)
	begun, _ := c.abort(everyTask)
	c.await(begun)
	c.out.send(r)
	return errLogout
}

// text answers a text request: SendTargets, and what continues its answer.
func (c *conn) text(p *pdu, numbered bool) error {
	if p.header[1]&continueBit != 0 {
		return fmt.Errorf("%w: a text request that continues", errProtocol)
	}
	if p.transferTag() == noTag {
		keys, err := parseText(p.data)
		if err != nil {
			return err
		}
		c.textOut = c.textAnswer(keys)
	}
	n := min(len(c.textOut), c.params.sendMax)
	r := newReply(1)
	r.command = numbered
	o := &r.pdus[0]
	o.header[0], o.header[1], o.status = opTextIn, finalBit, true
	o.put(16, p.tag())
	o.put(20, noTag)
	o.set(c.textOut[:n], c.params.dataDigest)
	if c.textOut = c.textOut[n:]; len(c.textOut) > 0 {
		o.header[1] = continueBit
		o.put(20, 1)
	}
	c.out.leave(r)
	return nil
}

func (c *conn) textAnswer(keys []pair) (out []byte) {
	for _, k := range keys {
		switch {
		case k.key != "SendTargets":
			out = appendText(out, pair{k.key, "NotUnderstood"})
		case k.value == "All" && !c.discovery:
			out = appendText(out, pair{k.key, "Reject"})
		default:
			out = c.sendTargets(out, k.value)
		}
	}
	return out
}

// sendTargets lists an initiator's targets, or the one that is named.
func (c *conn) sendTargets(out []byte, which string) []byte {
	names := []string{c.iqn}
	if c.discovery {
		var err error
		if names, err = c.s.targets.Discover(c.ctx, c.initiator); err != nil {
			c.log.Warn("listing targets failed", "err", err)
			return appendText(out, pair{"SendTargets", "Reject"})
		}
	}
	portal := c.s.portal
	if portal == "" {
		portal = c.conn.LocalAddr().String()
	}
	for _, name := range names {
		if which == "All" || which == "" && name == c.iqn || strings.EqualFold(which, name) {
			out = appendText(out, pair{"TargetName", name}, pair{"TargetAddress", portal + "," + portalGroup})
		}
	}
	return out
}
