// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/garyclub/webhook-operator/internal/fixture/system"
)

const (
	// warmDeliveries open the connections that the run will use.
	warmDeliveries = 1000
	warmBatch      = 200
	warmTimeout    = 5 * time.Minute
)

// warmer posts events that are not measured.
type warmer struct {
	url        string
	load       Load
	next       int64
	deliveries int // that were promised
}

// warm posts events until the dispatcher knows every endpoint, and some more, and waits until they have arrived, unless
// they are to wait themselves.
func (s *stand) warm(ctx context.Context, d *system.Dispatcher, l Load) error {
	w := &warmer{url: d.EventsURL(), load: l}
	groups := make([]int, l.Groups)
	for i := range groups {
		groups[i] = i
	}
	err := system.Eventually(ctx, warmTimeout, func() (err error) {
		if groups, err = w.post(ctx, groups); err == nil && len(groups) > 0 {
			err = fmt.Errorf("%d groups of endpoints are not known to the dispatcher", len(groups))
		}
		return err
	})
	if err != nil || l.Kind == Backlog || l.Kind == Restart {
		return err
	}
	if l.Kind == Flow {
		if _, err := w.post(ctx, l.more()); err != nil {
			return err
		}
	}
	so, err := s.recv.arrived(ctx, 0, w.deliveries)
	if err == nil && so.Warm < int64(w.deliveries) {
		err = fmt.Errorf("%d of %d deliveries of the warm-up arrived", so.Warm, w.deliveries)
	}
	return err
}

// more are the groups of the events that open connections.
func (l Load) more() []int {
	groups := make([]int, warmDeliveries/l.Fanout)
	for i := range groups {
		groups[i] = i % l.measured()
	}
	return groups
}

// post posts an event for each of the groups and returns those of which not every endpoint is known.
func (w *warmer) post(ctx context.Context, groups []int) (unknown []int, err error) {
	for len(groups) > 0 {
		batch := groups[:min(len(groups), warmBatch)]
		groups = groups[len(batch):]
		answers, err := w.postBatch(ctx, batch)
		if err != nil {
			return nil, err
		}
		for i, deliveries := range answers {
			w.deliveries += deliveries
			if deliveries != w.load.Fanout {
				unknown = append(unknown, batch[i])
			}
		}
	}
	return unknown, nil
}

// postBatch returns the number of deliveries of each event.
func (w *warmer) postBatch(ctx context.Context, groups []int) ([]int, error) {
	var lines bytes.Buffer
	body := newBody(w.load.BodyBytes)
	for _, group := range groups {
		stamp(body, firstWarm+w.next, time.Now(), group)
		w.next++
		lines.Write(body)
		lines.WriteByte('\n')
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, w.url, &lines)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Content-Type", "application/x-ndjson")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	defer func() { _ = response.Body.Close() }()
	content, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, err
	}
	if response.StatusCode != http.StatusAccepted {
		return nil, fmt.Errorf("%s: %s", response.Status, content)
	}
	return readDeliveries(content)
}

// readDeliveries reads the answer to a batch. Events that are not matched yet have no deliveries that anybody knows of.
func readDeliveries(answer []byte) ([]int, error) {
	var a struct {
		Events []struct {
			Deliveries *int `json:"deliveries"`
		} `json:"events"`
	}
	if err := json.Unmarshal(answer, &a); err != nil {
		return nil, err
	}
	all := make([]int, len(a.Events))
	for i, e := range a.Events {
		if e.Deliveries != nil {
			all[i] = *e.Deliveries
		}
	}
	return all, nil
}
