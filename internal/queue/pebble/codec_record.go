// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package pebble

import (
	"encoding/binary"

	"github.com/garyclub/webhook-operator/internal/delivery"
	"github.com/garyclub/webhook-operator/internal/event"
)

const (
	flagShared  = 1
	flagIndexed = 2
	flagOrdered = 4
)

// stored is a delivery with the measures of its event, as it stands on disk.
type stored struct {
	delivery.Record
	// shared says that the event has, or had, more than one delivery.
	shared bool
	// indexed says that it stands in the table of what is held, by its event.
	indexed bool
}

func newStored(e *event.Event, d delivery.Delivery, shared bool) *stored {
	return &stored{shared: shared, Record: delivery.Record{
		Delivery: d, EventType: e.Type, EventTime: e.Time, CallID: e.CallID, AgentID: e.AgentID,
		PayloadBytes: len(e.Payload), PayloadSHA: e.SHA256,
	}}
}

func appendRecord(dst []byte, s *stored) []byte {
	var flags byte
	if s.shared {
		flags |= flagShared
	}
	if s.indexed {
		flags |= flagIndexed
	}
	ordered := s.Order != "" || s.OrderName != ""
	if ordered {
		flags |= flagOrdered
	}
	dst = append(dst, codecVersion, flags)
	dst = appendText(dst, s.Ref.Namespace)
	dst = appendText(dst, s.Ref.Name)
	dst = appendText(dst, s.UID)
	dst = appendText(dst, s.EventID)
	dst = appendText(dst, s.Trigger)
	dst = append(dst, byte(s.State))
	dst = appendText(dst, s.Reason)
	dst = appendTime(dst, s.Accepted)
	dst = appendTime(dst, s.Deadline)
	dst = appendTime(dst, s.Due)
	dst = appendInt(dst, s.Wait)
	dst = appendInt(dst, s.AttemptCount)
	dst = appendInt(dst, s.MaxAttempts)
	dst = appendInt(dst, s.Interruptions)
	dst = appendInt(dst, s.Hops)
	dst = appendTime(dst, s.Completed)
	dst = appendTime(dst, s.RedeliverableUntil)
	dst = appendText(dst, s.EventType)
	dst = appendTime(dst, s.EventTime)
	dst = appendText(dst, s.CallID)
	dst = appendText(dst, s.AgentID)
	dst = appendInt(dst, s.PayloadBytes)
	dst = append(dst, s.PayloadSHA[:]...)
	dst = binary.AppendUvarint(dst, uint64(len(s.Attempts)))
	for i := range s.Attempts {
		dst = appendAttempt(dst, &s.Attempts[i])
	}
	if ordered {
		dst = appendText(dst, s.Order)
		dst = appendText(dst, s.OrderName)
	}
	return dst
}

func appendAttempt(dst []byte, a *delivery.Attempt) []byte {
	dst = appendInt(dst, a.Number)
	dst = appendTime(dst, a.Start)
	dst = appendInt(dst, a.Duration)
	dst = appendText(dst, a.Outcome)
	dst = appendInt(dst, a.StatusCode)
	dst = appendText(dst, a.Message)
	return appendInt(dst, a.RetryAfter)
}

func parseRecord(value []byte) (*stored, error) {
	r := openValue(string(value))
	s := &stored{}
	flags := r.byte()
	s.shared, s.indexed = flags&flagShared != 0, flags&flagIndexed != 0
	s.Ref.Namespace = r.text()
	s.Ref.Name = r.text()
	s.UID = r.text()
	s.EventID = r.text()
	s.Trigger = delivery.Trigger(r.text())
	s.State = delivery.State(r.byte())
	s.Reason = r.text()
	s.Accepted = r.time()
	s.Deadline = r.time()
	s.Due = r.time()
	s.Wait = r.duration()
	s.AttemptCount = r.int()
	s.MaxAttempts = r.int()
	s.Interruptions = r.int()
	s.Hops = r.int()
	s.Completed = r.time()
	s.RedeliverableUntil = r.time()
	s.EventType = event.Type(r.text())
	s.EventTime = r.time()
	s.CallID = r.text()
	s.AgentID = r.text()
	s.PayloadBytes = r.int()
	s.PayloadSHA = r.sum()
	s.Attempts = parseAttempts(r)
	if flags&flagOrdered != 0 {
		s.Order = r.text()
		s.OrderName = r.text()
	}
	return s, r.err()
}

func parseAttempts(r *reader) []delivery.Attempt {
	n := r.uvarint()
	// An attempt takes more than a byte, so a number beyond the rest is no number of attempts.
	if n == 0 || n > uint64(len(r.rest)) {
		r.broken = r.broken || n != 0
		return nil
	}
	attempts := make([]delivery.Attempt, 0, min(n, delivery.MaxKeptAttempts))
	for range n {
		attempts = append(attempts, delivery.Attempt{
			Number:     r.int(),
			Start:      r.time(),
			Duration:   r.duration(),
			Outcome:    delivery.Outcome(r.text()),
			StatusCode: r.int(),
			Message:    r.text(),
			RetryAfter: r.duration(),
		})
		if r.broken {
			return nil
		}
	}
	return attempts
}

func appendEvent(dst []byte, e *event.Event) []byte {
	dst = append(dst, codecVersion)
	dst = appendText(dst, e.ID)
	dst = appendText(dst, e.Namespace)
	dst = appendText(dst, e.Type)
	dst = appendTime(dst, e.Time)
	dst = appendText(dst, e.CallID)
	dst = appendText(dst, e.AgentID)
	dst = appendTime(dst, e.Accepted)
	dst = append(dst, e.SHA256[:]...)
	return append(dst, e.Payload...)
}

func parseEvent(value []byte) (*event.Event, error) {
	r := openValue(string(value))
	e := &event.Event{
		ID:        r.text(),
		Namespace: r.text(),
		Type:      event.Type(r.text()),
		Time:      r.time(),
		CallID:    r.text(),
		AgentID:   r.text(),
		Accepted:  r.time(),
		SHA256:    r.sum(),
	}
	e.Payload = []byte(r.rest)
	r.rest = ""
	return e, r.err()
}

func appendOutgoing(dst []byte, id deliveryID, s *stored) []byte {
	dst = append(dst, id.lane[:]...)
	dst = binary.BigEndian.AppendUint64(dst, id.seq)
	return appendRecord(dst, s)
}

func parseOutgoing(value []byte) (deliveryID, *stored, error) {
	if len(value) < 24 {
		return deliveryID{}, nil, errCorrupt
	}
	id := deliveryID{lane: laneID(value[:16]), seq: binary.BigEndian.Uint64(value[16:])}
	s, err := parseRecord(value[24:])
	return id, s, err
}
