// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package handover

import (
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/garyclub/webhook-operator/internal/delivery"
	"github.com/garyclub/webhook-operator/internal/event"
	"github.com/garyclub/webhook-operator/internal/handover/handoverpb"
)

// packer makes one message. An event of several deliveries goes along once.
type packer struct {
	message *handoverpb.TakeOverRequest
	bytes   int
	events  map[packedEvent]uint32
}

// packedEvent tells events apart. A key gives the same id in another namespace, and, used again after its window, to
// another body or to the same one accepted anew.
type packedEvent struct {
	namespace, id string
	body          [32]byte
	accepted      int64
}

func newPacker() *packer {
	return &packer{message: &handoverpb.TakeOverRequest{}, events: map[packedEvent]uint32{}}
}

// add takes a delivery into the message, unless that is full.
func (p *packer) add(e *event.Event, d *delivery.Delivery, now time.Time) bool {
	key := packedEvent{e.Namespace, e.ID, e.SHA256, e.Accepted.UnixNano()}
	index, known := p.events[key]
	parcel := parcelToProto(d, now)
	size := proto.Size(parcel) + 8
	var packed *handoverpb.Event
	if !known {
		index, packed = uint32(len(p.message.GetEvents())), eventToProto(e)
		size += proto.Size(packed) + 8
	}
	if len(p.message.GetParcels()) > 0 && p.bytes+size > maxBatchBytes {
		return false
	}
	if packed != nil {
		p.message.Events = append(p.message.Events, packed)
		p.events[key] = index
	}
	parcel.Event = index
	p.message.Parcels = append(p.message.Parcels, parcel)
	p.bytes += size
	return true
}

func eventToProto(e *event.Event) *handoverpb.Event {
	return &handoverpb.Event{
		Id: e.ID, Namespace: e.Namespace, Type: string(e.Type), Time: timestamppb.New(e.Time), CallId: e.CallID,
		AgentId: e.AgentID, Accepted: timestamppb.New(e.Accepted), Sha256: e.SHA256[:], Payload: e.Payload,
	}
}

func parcelToProto(d *delivery.Delivery, now time.Time) *handoverpb.Parcel {
	m := &handoverpb.Parcel{
		Namespace: d.Ref.Namespace, EndpointName: d.Ref.Name, Trigger: string(d.Trigger), Accepted: timestamppb.New(d.Accepted),
		Deadline: timestamppb.New(d.Deadline), Wait: durationpb.New(waitOf(d, now)),
		AttemptCount: int32(d.AttemptCount), MaxAttempts: int32(d.MaxAttempts),
		Interruptions: int32(d.Interruptions), Hops: int32(d.Hops),
	}
	m.Order, m.OrderName = d.Order, d.OrderName
	if d.State == delivery.Failed {
		m.Failed, m.Reason = true, d.Reason
		m.Completed, m.RedeliverableUntil = timestamppb.New(d.Completed), timestamppb.New(d.RedeliverableUntil)
	}
	for i := range d.Attempts {
		a := &d.Attempts[i]
		m.Attempts = append(m.Attempts, &handoverpb.Attempt{
			Number: int32(a.Number), Start: timestamppb.New(a.Start), Duration: durationpb.New(a.Duration),
			Outcome: string(a.Outcome), StatusCode: int32(a.StatusCode), Message: a.Message,
			RetryAfter: durationpb.New(min(a.RetryAfter, delivery.MaxRetryAfter)),
		})
	}
	return m
}

// waitOf is how long the delivery still waits. The wait that led to its due time bounds it after a step of the clock.
func waitOf(d *delivery.Delivery, now time.Time) time.Duration {
	return max(0, min(d.Due.Sub(now), d.Wait))
}
