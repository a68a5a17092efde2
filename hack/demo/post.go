// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"embed"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
)

//go:embed events
var eventFiles embed.FS

// posted is an event that was accepted.
type posted struct {
	file    string
	body    []byte
	id      string
	matches int
}

// The events of the product's page, with how many endpoints of config/samples each is for.
var events = []struct {
	file    string
	matches int
}{
	{"call_completed.json", 3},  // zapier-sheets, slack-relay, call-dashboard
	{"booking_created.json", 3}, // zapier-sheets, crm, call-dashboard
	{"contact_created.json", 3}, // crm, call-dashboard, onboarding-workflow
}

func (d *demo) postAll(ctx context.Context) error {
	say("the voice agent posts a call, a booking and a new contact to its dispatcher")
	for _, e := range events {
		body, err := eventFiles.ReadFile("events/" + e.file)
		if err != nil {
			return err
		}
		answer, err := post(ctx, d.dispatcher.EventsURL(), body)
		if err != nil {
			return fmt.Errorf("post %s: %w", e.file, err)
		}
		var accepted struct {
			ID         string `json:"id"`
			Deliveries int    `json:"deliveries"`
		}
		if err := json.Unmarshal(answer, &accepted); err != nil {
			return fmt.Errorf("post %s: answer: %w", e.file, err)
		}
		fmt.Printf("  POST %s: 202 %s\n", e.file, strings.TrimSpace(string(answer)))
		d.posted = append(d.posted, posted{file: e.file, body: body, id: accepted.ID, matches: accepted.Deliveries})
	}
	return nil
}

func post(ctx context.Context, url string, body []byte) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	defer func() { _ = response.Body.Close() }()
	answer, err := io.ReadAll(io.LimitReader(response.Body, 1<<16))
	if err == nil && response.StatusCode != http.StatusAccepted {
		err = fmt.Errorf("%s: %s", response.Status, answer)
	}
	return answer, err
}
