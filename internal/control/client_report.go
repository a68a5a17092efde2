// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"sync"

	"github.com/garyclub/webhook-operator/internal/control/controlpb"
	"github.com/garyclub/webhook-operator/internal/delivery"
)

// ReportStream carries records and counters to the manager, and its answers back. Sending and receiving may go on at
// the same time. It ends with the context that it was opened with.
type ReportStream struct {
	queueID string
	stream  controlpb.Control_ReportClient

	mu sync.Mutex // one message is sent at a time
}

// Report opens a stream. That the manager has accepted it shows in the first answer.
func (c *Client) Report(ctx context.Context) (*ReportStream, error) {
	stream, err := c.service.Report(ctx)
	if err != nil {
		return nil, fmt.Errorf("open report: %w", err)
	}
	s := &ReportStream{queueID: c.o.QueueID, stream: stream}
	if err := s.send(&controlpb.ReportRequest{Persistent: c.o.Persistent}); err != nil {
		return nil, err
	}
	return s, nil
}

// SendRecords sends records by their sequence numbers.
func (s *ReportStream) SendRecords(records iter.Seq2[uint64, delivery.Record]) error {
	m := &controlpb.ReportRequest{}
	for seq, r := range records {
		m.Records = append(m.Records, recordToProto(seq, &r))
	}
	return s.send(m)
}

// SendCounters sends cumulative counters under a version that is not 0.
func (s *ReportStream) SendCounters(counters []delivery.Counters, version uint64) error {
	m := &controlpb.ReportRequest{CountersVersion: version}
	for i := range counters {
		m.Counters = append(m.Counters, countersToProto(&counters[i]))
	}
	return s.send(m)
}

var errReportEnded = errors.New("the stream of reports has ended")

func (s *ReportStream) send(m *controlpb.ReportRequest) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	m.QueueId = s.queueID
	err := s.stream.Send(m)
	if errors.Is(err, io.EOF) {
		return errReportEnded // the cause is what Recv returns
	}
	if err != nil {
		return fmt.Errorf("send report: %w", err)
	}
	return nil
}

// Recv returns which records were taken, with whether they were recorded, and the version of the counters that are in
// the ledger; 0 when it has not changed.
func (s *ReportStream) Recv() (taken map[uint64]bool, countersVersion uint64, err error) {
	m, err := s.stream.Recv()
	if err != nil {
		return nil, 0, fmt.Errorf("receive report: %w", err)
	}
	taken = make(map[uint64]bool, len(m.GetTaken()))
	for _, t := range m.GetTaken() {
		taken[t.GetSeq()] = t.GetRecorded()
	}
	return taken, m.GetCountersVersion(), nil
}
