//go:build node

// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// producer posts events at a rate until SIGTERM, and tells the accountant the id of each that was answered 202.
type producer struct {
	events, accountant string
	pod                string
	rate, count        int
	client             *http.Client
}

func produce(args []string) error {
	p := &producer{events: os.Getenv("WEBHOOK_EVENTS_URL"), client: &http.Client{Timeout: 5 * time.Second}}
	f := flag.NewFlagSet("produce", flag.ExitOnError)
	f.StringVar(&p.accountant, "accountant", "", "URL that is told of each accepted event")
	f.IntVar(&p.rate, "rate", 1, "events per second")
	f.IntVar(&p.count, "count", 0, "how many; 0 for no end")
	_ = f.Parse(args)
	if p.events == "" {
		return fmt.Errorf("WEBHOOK_EVENTS_URL is not set: the sidecar was not injected")
	}
	p.pod, _ = os.Hostname()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	p.run(ctx)
	<-ctx.Done() // a Deployment's pod does not end by itself
	return nil
}

func (p *producer) run(ctx context.Context) {
	tick := time.NewTicker(time.Second / time.Duration(p.rate))
	defer tick.Stop()
	for n := 0; p.count == 0 || n < p.count; n++ {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		id, err := p.post(context.WithoutCancel(ctx), n) // what has begun is brought to its end
		if err != nil {
			fmt.Fprintln(os.Stderr, "not accepted:", err)
			continue
		}
		p.tell(context.WithoutCancel(ctx), id)
	}
}

func (p *producer) post(ctx context.Context, n int) (id string, err error) {
	body := fmt.Sprintf(`{"event":"call.completed","timestamp":%q,"call":{"id":"call_%s_%d"},"summary":"from a pod"}`,
		time.Now().UTC().Format(time.RFC3339), p.pod, n)
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, p.events, bytes.NewReader([]byte(body)))
	if err != nil {
		return "", err
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := p.client.Do(request)
	if err != nil {
		return "", err
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusAccepted {
		return "", fmt.Errorf("status %d", response.StatusCode)
	}
	var answer struct{ ID string }
	return answer.ID, json.NewDecoder(response.Body).Decode(&answer)
}

// tell repeats itself until it is heard: an event that is not in the books would not be missed.
func (p *producer) tell(ctx context.Context, id string) {
	for {
		request, err := http.NewRequestWithContext(ctx, http.MethodPost, p.accountant+"?id="+url.QueryEscape(id), nil)
		if err != nil {
			panic(err) // the flag is no URL
		}
		response, err := p.client.Do(request)
		if err == nil {
			_ = response.Body.Close()
			return
		}
		<-time.After(50 * time.Millisecond)
	}
}
