// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/garyclub/webhook-operator/internal/control/controlpb"
	"github.com/garyclub/webhook-operator/internal/delivery"
)

const (
	// maxUnanswered bounds the records of one stream that are with the sink. Dispatchers keep to half of it.
	maxUnanswered = 2_000
	// answerDelay is how long answers are collected: each response costs the dispatcher a sync of its disk.
	answerDelay = 10 * time.Millisecond
)

type reportStream = grpc.BidiStreamingServer[controlpb.ReportRequest, controlpb.ReportResponse]

// Report takes records and counters of one dispatcher and answers each once.
func (s *Server) Report(stream reportStream) error {
	ctx, cancel := context.WithCancel(stream.Context())
	defer cancel()
	s.metrics.streams.WithLabelValues(streamReport).Inc()
	defer s.metrics.streams.WithLabelValues(streamReport).Dec()

	t := &reportTalk{
		server: s, stream: stream, caller: callerOf(ctx),
		room: make(chan struct{}, maxUnanswered), wake: make(chan struct{}, 1),
	}
	received := make(chan error, 1)
	go func() { received <- t.receive(ctx) }() // ends with this stream, which returning from here ends
	return ended(t.answer(ctx, received))
}

type reportTalk struct {
	server *Server
	stream reportStream
	caller caller
	source delivery.Source // once the first request has come
	// room holds an element for each record that is with the sink or whose answer was not sent.
	room chan struct{}
	wake chan struct{}

	mu      sync.Mutex
	taken   []*controlpb.Taken
	counted uint64
}

func (t *reportTalk) receive(ctx context.Context) error {
	for {
		m, err := t.stream.Recv()
		if errors.Is(err, io.EOF) {
			return errHungUp
		}
		if err != nil {
			return err
		}
		if t.source.QueueID == "" {
			if !validID(m.GetQueueId()) {
				return status.Error(codes.InvalidArgument, "the first request must name a queue id")
			}
			t.source = delivery.Source{Namespace: t.caller.Namespace, Pod: t.caller.Pod, PodUID: t.caller.PodUID,
				QueueID: m.GetQueueId(), Persistent: m.GetPersistent()}
		}
		if err := t.offer(ctx, m.GetRecords()); err != nil {
			return err
		}
		if err := t.count(ctx, m); err != nil {
			return err
		}
	}
}

// namespaceOf is the namespace that a report is about: the one that a gateway names, and the token's for everybody else,
// whatever they name. Empty when a gateway names one that there is no record to be made in.
func (t *reportTalk) namespaceOf(named string) string {
	switch {
	case !t.caller.gateway:
		return t.caller.Namespace
	case validNamespace(named) && t.server.o.Serves(named):
		return named
	}
	return ""
}

func (t *reportTalk) offer(ctx context.Context, records []*controlpb.Record) error {
	for _, m := range records {
		select {
		case t.room <- struct{}{}:
		case <-ctx.Done():
			return ctx.Err()
		}
		seq := m.GetSeq()
		r, err := recordFromProto(t.namespaceOf(m.GetNamespace()), m)
		if err != nil {
			// It would not be valid the next time either, so the dispatcher must not send it for ever.
			t.settle(seq, resultInvalid)
			continue
		}
		r.QueueID = t.source.QueueID
		var once sync.Once
		done := func(recorded bool) {
			once.Do(func() {
				if recorded {
					t.settle(seq, resultRecorded)
					return
				}
				t.settle(seq, resultLeftOut)
			})
		}
		if err := t.server.o.Sink.Offer(ctx, t.source, r, done); err != nil {
			return unavailable(err)
		}
	}
	return nil
}

func (t *reportTalk) count(ctx context.Context, m *controlpb.ReportRequest) error {
	version := m.GetCountersVersion()
	if version == 0 {
		return nil
	}
	all := make([]delivery.Counters, 0, len(m.GetCounters()))
	for _, c := range m.GetCounters() {
		counters, err := countersFromProto(t.namespaceOf(c.GetNamespace()), c)
		if err != nil {
			t.server.metrics.records.WithLabelValues(resultInvalid).Inc()
			continue
		}
		all = append(all, counters)
	}
	done := func() {
		t.mu.Lock()
		t.counted = max(t.counted, version)
		t.mu.Unlock()
		t.wakeUp()
	}
	if len(all) == 0 {
		done()
		return nil
	}
	if err := t.server.o.Sink.Count(ctx, t.source, all, done); err != nil {
		return unavailable(err)
	}
	return nil
}

// unavailable hides the sink's error, which may speak of other namespaces.
func unavailable(err error) error {
	if errors.Is(err, context.Canceled) {
		return err
	}
	return status.Error(codes.Unavailable, "the recorder does not take reports now")
}

// settle never blocks: it is called from the sink.
func (t *reportTalk) settle(seq uint64, result string) {
	t.server.metrics.records.WithLabelValues(result).Inc()
	t.mu.Lock()
	t.taken = append(t.taken, &controlpb.Taken{Seq: seq, Recorded: result == resultRecorded})
	t.mu.Unlock()
	t.wakeUp()
}

func (t *reportTalk) wakeUp() {
	select {
	case t.wake <- struct{}{}:
	default:
	}
}

// answer sends what was settled, batched, until the stream ends.
func (t *reportTalk) answer(ctx context.Context, received <-chan error) error {
	for {
		select {
		case err := <-received:
			return err
		case <-ctx.Done():
			return ctx.Err()
		case <-t.wake:
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(answerDelay):
		}
		if err := t.sendAnswers(); err != nil {
			return err
		}
	}
}

func (t *reportTalk) sendAnswers() error {
	t.mu.Lock()
	response := &controlpb.ReportResponse{Taken: t.taken, CountersVersion: t.counted}
	t.taken = nil
	t.mu.Unlock()
	if err := t.stream.Send(response); err != nil {
		return err
	}
	for range response.GetTaken() {
		<-t.room
	}
	return nil
}
