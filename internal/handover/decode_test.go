// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package handover

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/garyclub/webhook-operator/internal/delivery"
	"github.com/garyclub/webhook-operator/internal/event"
	"github.com/garyclub/webhook-operator/internal/handover/handoverpb"
)

func ownNamespace(namespace string) bool { return namespace == "team" }

func message() *handoverpb.TakeOverRequest {
	e := sampleEvent("team", `{"event":"call.completed"}`)
	d := sampleDelivery(e)
	p := newPacker()
	p.add(e, &d, time.Now())
	return p.message
}

func TestDecodeChecksEveryField(t *testing.T) {
	if got, err := decode(message(), ownNamespace, time.Now()); err != nil || got[0].Event == nil {
		t.Fatalf("a good one is refused: %v", err)
	}
	long := strings.Repeat("x", 1000)
	for name, spoil := range map[string]func(e *handoverpb.Event, p *handoverpb.Parcel, a *handoverpb.Attempt){
		"other bytes":        func(e *handoverpb.Event, _ *handoverpb.Parcel, _ *handoverpb.Attempt) { e.Payload[0]++ },
		"no bytes":           func(e *handoverpb.Event, _ *handoverpb.Parcel, _ *handoverpb.Attempt) { e.Payload = nil },
		"no digest":          func(e *handoverpb.Event, _ *handoverpb.Parcel, _ *handoverpb.Attempt) { e.Sha256 = nil },
		"event id":           func(e *handoverpb.Event, _ *handoverpb.Parcel, _ *handoverpb.Attempt) { e.Id = "a\nb" },
		"long event id":      func(e *handoverpb.Event, _ *handoverpb.Parcel, _ *handoverpb.Attempt) { e.Id = long },
		"type":               func(e *handoverpb.Event, _ *handoverpb.Parcel, _ *handoverpb.Attempt) { e.Type = "call" },
		"long call id":       func(e *handoverpb.Event, _ *handoverpb.Parcel, _ *handoverpb.Attempt) { e.CallId = long },
		"long agent id":      func(e *handoverpb.Event, _ *handoverpb.Parcel, _ *handoverpb.Attempt) { e.AgentId = long },
		"no event time":      func(e *handoverpb.Event, _ *handoverpb.Parcel, _ *handoverpb.Attempt) { e.Time = nil },
		"no acceptance":      func(e *handoverpb.Event, _ *handoverpb.Parcel, _ *handoverpb.Attempt) { e.Accepted = nil },
		"bad time":           func(e *handoverpb.Event, _ *handoverpb.Parcel, _ *handoverpb.Attempt) { e.Time.Nanos = -1 },
		"endpoint":           func(_ *handoverpb.Event, p *handoverpb.Parcel, _ *handoverpb.Attempt) { p.EndpointName = "A/b" },
		"long endpoint":      func(_ *handoverpb.Event, p *handoverpb.Parcel, _ *handoverpb.Attempt) { p.EndpointName = long },
		"trigger":            func(_ *handoverpb.Event, p *handoverpb.Parcel, _ *handoverpb.Attempt) { p.Trigger = "Whim" },
		"no deadline":        func(_ *handoverpb.Event, p *handoverpb.Parcel, _ *handoverpb.Attempt) { p.Deadline = nil },
		"deadline in a year": func(_ *handoverpb.Event, p *handoverpb.Parcel, _ *handoverpb.Attempt) { p.Deadline.Seconds += 31536000 },
		"negative wait":      func(_ *handoverpb.Event, p *handoverpb.Parcel, _ *handoverpb.Attempt) { p.Wait = durationpb.New(-1) },
		"another namespace":  func(_ *handoverpb.Event, p *handoverpb.Parcel, _ *handoverpb.Attempt) { p.Namespace = "other" },
		"negative attempts":  func(_ *handoverpb.Event, p *handoverpb.Parcel, _ *handoverpb.Attempt) { p.AttemptCount = -1 },
		"attempts not made":  func(_ *handoverpb.Event, p *handoverpb.Parcel, _ *handoverpb.Attempt) { p.AttemptCount = 1 },
		"no attempt allowed": func(_ *handoverpb.Event, p *handoverpb.Parcel, _ *handoverpb.Attempt) { p.MaxAttempts = 0 },
		"hops":               func(_ *handoverpb.Event, p *handoverpb.Parcel, _ *handoverpb.Attempt) { p.Hops = 1 << 30 },
		"interruptions": func(_ *handoverpb.Event, p *handoverpb.Parcel, _ *handoverpb.Attempt) {
			p.Interruptions = delivery.MaxInterruptions
		},
		"outcome":          func(_ *handoverpb.Event, _ *handoverpb.Parcel, a *handoverpb.Attempt) { a.Outcome = "Fine" },
		"status code":      func(_ *handoverpb.Event, _ *handoverpb.Parcel, a *handoverpb.Attempt) { a.StatusCode = 1000 },
		"attempt's number": func(_ *handoverpb.Event, _ *handoverpb.Parcel, a *handoverpb.Attempt) { a.Number = 0 },
		"attempt's start":  func(_ *handoverpb.Event, _ *handoverpb.Parcel, a *handoverpb.Attempt) { a.Start = nil },
		"attempt's duration": func(_ *handoverpb.Event, _ *handoverpb.Parcel, a *handoverpb.Attempt) {
			a.Duration = durationpb.New(-1)
		},
		"attempt's retry-for": func(_ *handoverpb.Event, _ *handoverpb.Parcel, a *handoverpb.Attempt) {
			a.RetryAfter = durationpb.New(-1)
		},
	} {
		m := message()
		spoil(m.Events[0], m.Parcels[0], m.Parcels[0].Attempts[0])
		if got, err := decode(m, ownNamespace, time.Now()); err != nil || got[0].Event != nil {
			t.Errorf("%s: taken, error %v; want that parcel refused", name, err)
		}
	}
}

func deadMessage() *handoverpb.TakeOverRequest {
	e := sampleEvent("team", `{"event":"call.completed"}`)
	d := deadLetter(sampleDelivery(e))
	p := newPacker()
	p.add(e, &d, time.Now())
	return p.message
}

func TestDecodeChecksDeadLetters(t *testing.T) {
	long := strings.Repeat("x", 1000)
	good := map[string]func(p *handoverpb.Parcel){
		"as it is":              func(*handoverpb.Parcel) {},
		"by its last crash":     func(p *handoverpb.Parcel) { p.Reason, p.Interruptions = "Interrupted", delivery.MaxInterruptions },
		"for want of room":      func(p *handoverpb.Parcel) { p.Reason = delivery.ReasonQueueFull },
		"under no order":        func(p *handoverpb.Parcel) { p.Order, p.OrderName = "", "" },
		"long past its day":     func(p *handoverpb.Parcel) { p.Deadline.Seconds -= 30 * 86400 },
		"an order with no name": func(p *handoverpb.Parcel) { p.OrderName = "" },
	}
	bad := map[string]func(p *handoverpb.Parcel){
		"no reason":              func(p *handoverpb.Parcel) { p.Reason = "" },
		"another reason":         func(p *handoverpb.Parcel) { p.Reason = "Whim" },
		"delivered":              func(p *handoverpb.Parcel) { p.Reason = "Delivered" },
		"no completion":          func(p *handoverpb.Parcel) { p.Completed = nil },
		"completed in a year":    func(p *handoverpb.Parcel) { p.Completed.Seconds += 31536000 },
		"kept for no time":       func(p *handoverpb.Parcel) { p.RedeliverableUntil = nil },
		"kept for a year":        func(p *handoverpb.Parcel) { p.RedeliverableUntil.Seconds += 31536000 },
		"too many crashes":       func(p *handoverpb.Parcel) { p.Interruptions = delivery.MaxInterruptions + 1 },
		"long order":             func(p *handoverpb.Parcel) { p.Order = long },
		"order of other bytes":   func(p *handoverpb.Parcel) { p.Order = "a\nb" },
		"long name":              func(p *handoverpb.Parcel) { p.OrderName = long },
		"name of other bytes":    func(p *handoverpb.Parcel) { p.OrderName = "A b" },
		"a name and no order":    func(p *handoverpb.Parcel) { p.Order = "" },
		"ordered by an event":    func(p *handoverpb.Parcel) { p.Trigger = string(delivery.TriggerEvent) },
		"an end, and it waits":   func(p *handoverpb.Parcel) { p.Failed = false },
		"a reason, and it waits": func(p *handoverpb.Parcel) { p.Failed, p.Completed, p.RedeliverableUntil = false, nil, nil },
	}
	for name, change := range good {
		m := deadMessage()
		change(m.Parcels[0])
		got, err := decode(m, ownNamespace, time.Now())
		if err != nil || got[0].Event == nil || got[0].Delivery.State != delivery.Failed {
			t.Errorf("%s: %+v, error %v; want it taken", name, got, err)
		}
	}
	for name, spoil := range bad {
		m := deadMessage()
		spoil(m.Parcels[0])
		if got, err := decode(m, ownNamespace, time.Now()); err != nil || got[0].Event != nil {
			t.Errorf("%s: taken, error %v; want it refused", name, err)
		}
	}
}

func TestDecodeCutsLongWaitsDown(t *testing.T) {
	longest := 86400 * time.Second * 12 / 10 // maxBackoffSeconds, with its jitter
	m, now := message(), time.Now()
	m.Parcels[0].Wait = durationpb.New(longest)
	if got, err := decode(m, ownNamespace, now); err != nil || got[0].Delivery.Wait != longest {
		t.Errorf("a wait that an endpoint can ask for: %v, error %v", got, err)
	}
	m.Parcels[0].Wait = durationpb.New(100 * maxWait)
	m.Parcels[0].Attempts[0].Duration = durationpb.New(100 * maxWait)
	m.Parcels[0].Attempts[1].RetryAfter = durationpb.New(100 * maxDeadline)
	got, err := decode(m, ownNamespace, now)
	if err != nil || got[0].Event == nil {
		t.Fatalf("it is refused: %v", err)
	}
	d := got[0].Delivery
	if d.Wait != maxWait || d.Due != now.Add(maxWait) || d.Attempts[0].Duration != maxWait || d.Attempts[1].RetryAfter != delivery.MaxRetryAfter {
		t.Errorf("it became %+v", d)
	}
}

func TestEventsOfOneIDStayApart(t *testing.T) {
	one := sampleEvent("team", "{}")
	elsewhere, anew := *one, *one
	elsewhere.Namespace = "other"
	anew.Accepted = anew.Accepted.Add(time.Hour)
	p := newPacker()
	for _, e := range []*event.Event{one, &elsewhere, &anew, one} {
		d := sampleDelivery(e)
		p.add(e, &d, time.Now())
	}
	if n := len(p.message.GetEvents()); n != 3 {
		t.Errorf("%d events in the message, want 3", n)
	}
	got, err := decode(p.message, func(string) bool { return true }, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{"team", "other", "team", "team"} {
		if got[i].Event == nil || got[i].Event.Namespace != want || got[i].Delivery.Ref.Namespace != want {
			t.Errorf("parcel %d is %+v, want it in %s", i, got[i], want)
		}
	}
}

func TestDecodeRefusesWhatDoesNotFitTogether(t *testing.T) {
	for name, spoil := range map[string]func(m *handoverpb.TakeOverRequest){
		"nothing":         func(m *handoverpb.TakeOverRequest) { m.Reset() },
		"another event":   func(m *handoverpb.TakeOverRequest) { m.Parcels[0].Event = 7 },
		"too many events": func(m *handoverpb.TakeOverRequest) { m.Events = append(m.Events, m.Events[0]) },
		"too many parcels": func(m *handoverpb.TakeOverRequest) {
			for range maxParcels {
				m.Parcels = append(m.Parcels, m.Parcels[0])
			}
		},
	} {
		m := message()
		spoil(m)
		if _, err := decode(m, ownNamespace, time.Now()); !errors.Is(err, errInvalid) {
			t.Errorf("%s: error %v", name, err)
		}
	}
	m := message()
	m.Events[0].Namespace = "other"
	if _, err := decode(m, ownNamespace, time.Now()); !errors.Is(err, errForeign) {
		t.Errorf("another namespace: error %v", err)
	}
}

func FuzzDecode(f *testing.F) {
	good, err := proto.Marshal(message())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte{})
	dead, err := proto.Marshal(deadMessage())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(dead)
	for n := 0; n < len(good); n += 7 {
		f.Add(good[:n])
	}
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	f.Fuzz(func(t *testing.T, raw []byte) {
		m := &handoverpb.TakeOverRequest{}
		if proto.Unmarshal(raw, m) != nil {
			return
		}
		parcels, err := decode(m, ownNamespace, now)
		if err != nil {
			return
		}
		if len(parcels) != len(m.GetParcels()) {
			t.Fatalf("%d parcels of %d", len(parcels), len(m.GetParcels()))
		}
		for _, p := range parcels {
			if p.Event == nil {
				continue
			}
			dead := p.Delivery.State == delivery.Failed
			if p.Event.Namespace != "team" || p.Delivery.Ref.Namespace != "team" || p.Delivery.State == delivery.Delivered {
				t.Error("a parcel of another namespace or state")
			}
			if dead != (p.Delivery.Reason != "") || dead && p.Delivery.RedeliverableUntil.After(now.Add(maxDeadline)) {
				t.Error("an end that does not fit the state")
			}
			if len(p.Delivery.Order) > delivery.MaxOrderIDBytes || len(p.Delivery.OrderName) > delivery.MaxOrderNameBytes {
				t.Error("an order that is too long")
			}
			if sha256.Sum256(p.Event.Payload) != p.Event.SHA256 || len(p.Event.Payload) > event.MaxPayloadBytes {
				t.Error("bytes that do not fit")
			}
			if !dead && p.Delivery.Due.Before(now) || p.Delivery.Due.After(now.Add(maxWait)) || len(p.Delivery.Attempts) > delivery.MaxKeptAttempts {
				t.Error("a bound was passed")
			}
			again := newPacker()
			if !again.add(p.Event, &p.Delivery, now) {
				t.Error("what was taken cannot be handed on")
			}
			next, err := decode(again.message, ownNamespace, now)
			if err != nil || next[0].Event == nil || !bytes.Equal(next[0].Event.Payload, p.Event.Payload) {
				t.Errorf("what was taken is not taken again: %v", err)
			}
		}
	})
}

func TestTimesAreNeverMissing(t *testing.T) {
	if validTimes(nil) || validTimes(&timestamppb.Timestamp{Seconds: -1 << 60}) || !validTimes(timestamppb.Now()) {
		t.Error("times are judged wrongly")
	}
}
