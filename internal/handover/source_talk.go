// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package handover

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"google.golang.org/grpc"

	"github.com/garyclub/webhook-operator/internal/delivery"
	"github.com/garyclub/webhook-operator/internal/endpoint"
	"github.com/garyclub/webhook-operator/internal/handover/handoverpb"
)

var (
	errLate     = errors.New("the gateway did not answer in time")
	errNonsense = errors.New("the gateway's answer does not fit what was sent")
)

// talk is one stream to a gateway.
type talk struct {
	source *Source
	kind   passKind
	client handoverpb.HandOverClient
	stream grpc.BidiStreamingClient[handoverpb.TakeOverRequest, handoverpb.TakeOverResponse]
	cancel context.CancelCauseFunc
	// aside are leases of what the gateway does not take: held to the end of the pass, so that it comes to one.
	aside []Lease
}

// run hands over until nothing that is wanted is left. The stream is open before anything is leased for it: what is due
// is not held back from delivery by a gateway that does not answer.
func (t *talk) run(ctx context.Context) (moved int, err error) {
	t.source.skips.tidy()
	probe, err := t.lease(ctx, 1)
	t.giveBack(probe)
	if err != nil || len(probe) == 0 {
		return 0, err
	}
	if err := t.open(ctx); err != nil {
		return 0, err
	}
	for {
		leases, err := t.lease(ctx, maxParcels)
		if err != nil || len(leases) == 0 {
			return moved, err
		}
		n, err := t.handOver(ctx, leases)
		moved += n
		if err != nil {
			return moved, err
		}
	}
}

func (t *talk) lease(ctx context.Context, n int) ([]Lease, error) {
	if t.kind == passDead {
		return t.source.o.Queue.LeaseDead(ctx, n, t.source.skips.wanted)
	}
	return t.source.o.Queue.LeaseWaiting(ctx, n, t.kind != passBeforeEnd, t.source.skips.wanted)
}

// handOver sends the leases, message by message. What was not taken is given back.
func (t *talk) handOver(ctx context.Context, leases []Lease) (moved int, err error) {
	for len(leases) > 0 && err == nil {
		var taken int
		leases, taken, err = t.message(ctx, leases)
		moved += taken
	}
	t.giveBack(leases)
	return moved, err
}

// message sends as many of the leases as fit, and returns those that are left.
func (t *talk) message(ctx context.Context, leases []Lease) (left []Lease, moved int, err error) {
	packed, sent, left := t.pack(leases)
	if len(sent) == 0 {
		return left, 0, nil
	}
	answer, err := t.exchange(packed) //nolint:contextcheck // the stream has one of its own, derived from ctx
	if err != nil {
		t.giveBack(sent)
		return left, 0, err
	}
	taken, err := t.sort(sent, answer.GetVerdicts())
	if len(taken) == 0 {
		return left, 0, err
	}
	// Not the context: the gateway has them.
	if err := t.source.o.Queue.HandedOver(context.WithoutCancel(ctx), taken); err != nil {
		t.giveBack(taken) // those whose removal is under way stay held
		return left, 0, err
	}
	t.count(len(taken))
	return left, len(taken), err
}

func (t *talk) count(taken int) {
	if t.kind == passDead {
		t.source.metrics.deadLetters.Add(float64(taken))
		return
	}
	t.source.total.Add(int64(taken))
	t.source.metrics.moved.Add(float64(taken))
}

// pack makes a message of the first leases. What was refused before, or cannot be read, stays here.
func (t *talk) pack(leases []Lease) (message *handoverpb.TakeOverRequest, sent, left []Lease) {
	p, now := newPacker(), t.source.o.Now()
	p.message.Last = t.kind == passLast
	for i, l := range leases {
		d := l.Delivery()
		if t.source.skips.refused(&d) {
			t.aside = append(t.aside, l)
			continue
		}
		e, err := l.Event()
		if err != nil {
			t.source.o.Log.Error(err, "read of an event failed", "namespace", d.Ref.Namespace, "endpoint", d.Ref.Name, "eventID", d.EventID)
			t.refuse(l, &d)
			continue
		}
		if !p.add(e, &d, now) {
			return p.message, sent, leases[i:]
		}
		sent = append(sent, l)
	}
	return p.message, sent, nil
}

// sort returns what the gateway has taken, and gives the rest back.
func (t *talk) sort(sent []Lease, verdicts []handoverpb.Verdict) (taken []Lease, err error) {
	if len(verdicts) != len(sent) {
		t.giveBack(sent)
		return nil, errNonsense
	}
	for i, l := range sent {
		d := l.Delivery()
		switch verdicts[i] {
		case handoverpb.Verdict_VERDICT_TAKEN:
			taken = append(taken, l)
		case handoverpb.Verdict_VERDICT_UNKNOWN_ENDPOINT, handoverpb.Verdict_VERDICT_SHARE_FULL:
			t.passOver(l, d.Ref)
		case handoverpb.Verdict_VERDICT_INVALID:
			t.source.o.Log.Info("the gateway refuses a delivery: is it of an older version?", "namespace", d.Ref.Namespace,
				"endpoint", d.Ref.Name, "eventID", d.EventID)
			t.refuse(l, &d)
		default:
			err = errNonsense
			t.refuse(l, &d)
		}
	}
	return taken, err
}

// passOver leaves an endpoint out that the gateway may know, or have room for, later.
func (t *talk) passOver(l Lease, ref endpoint.Ref) {
	wait := passedOver
	if t.kind == passRest || t.kind == passLast {
		wait = passedOverAtEnd
	}
	t.source.skips.passOver(ref, wait)
	l.Release(t.source.o.Now())
}

// refuse leaves one delivery out that cannot be handed over.
func (t *talk) refuse(l Lease, d *delivery.Delivery) {
	t.source.skips.refuse(d)
	t.aside = append(t.aside, l)
}

func (t *talk) giveBack(leases []Lease) {
	for _, l := range leases {
		l.Release(t.source.o.Now())
	}
}

// open opens the stream and hears whose queue is at its other end.
func (t *talk) open(ctx context.Context) error {
	ctx, t.cancel = context.WithCancelCause(ctx)
	hello, err := t.within(ctx, func() (*handoverpb.TakeOverResponse, error) {
		var err error
		if t.stream, err = t.client.TakeOver(ctx); err != nil {
			return nil, err
		}
		return t.stream.Recv()
	})
	switch {
	case err != nil:
		return err
	case !validID(hello.GetQueueId()):
		return errNonsense
	case hello.GetQueueId() == t.source.o.QueueID:
		return ErrSelf
	case t.kind == passDead && !hello.GetDeadLetters():
		return ErrNoDeadLetters
	}
	return nil
}

func (t *talk) exchange(m *handoverpb.TakeOverRequest) (*handoverpb.TakeOverResponse, error) {
	return t.within(t.stream.Context(), func() (*handoverpb.TakeOverResponse, error) {
		// The cause of a stream that has ended is what Recv returns.
		if err := t.stream.Send(m); err != nil && !errors.Is(err, io.EOF) {
			return nil, err
		}
		return t.stream.Recv()
	})
}

// within ends the stream when the gateway takes too long.
func (t *talk) within(ctx context.Context, call func() (*handoverpb.TakeOverResponse, error)) (*handoverpb.TakeOverResponse, error) {
	timer := time.AfterFunc(answerTimeout, func() { t.cancel(errLate) })
	defer timer.Stop()
	answer, err := call()
	if err == nil {
		return answer, nil
	}
	if cause := context.Cause(ctx); cause != nil {
		return nil, fmt.Errorf("hand over: %w", errors.Join(cause, err))
	}
	return nil, fmt.Errorf("hand over: %w", err)
}

func (t *talk) end() {
	t.giveBack(t.aside)
	if t.cancel != nil {
		t.cancel(nil)
	}
}
