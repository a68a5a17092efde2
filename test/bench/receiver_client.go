// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/garyclub/webhook-operator/internal/fixture/pki"
	"github.com/garyclub/webhook-operator/internal/fixture/process"
)

// stalled is how long nothing may arrive before what is missing is taken for lost.
const stalled = 30 * time.Second

// receiver is the receiver process as the runner sees it.
type receiver struct {
	ReceiverOptions
	process  *process.Process
	reserved []io.Closer
}

// newReceiver starts it with a certificate of that authority.
func newReceiver(ctx context.Context, dir string, ca *pki.CA) (*receiver, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	r := &receiver{ReceiverOptions: ReceiverOptions{CertFile: filepath.Join(dir, "tls.crt"), KeyFile: filepath.Join(dir, "tls.key")}}
	for _, address := range []*string{&r.HTTP1, &r.HTTP2, &r.Control} {
		port, reservation, err := process.ReservePort()
		if err != nil {
			return nil, err
		}
		r.reserved = append(r.reserved, reservation)
		*address = net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	}
	cert, key := pki.EncodeLeaf(ca.Leaf([]string{"127.0.0.1"}))
	if err := os.WriteFile(r.CertFile, cert, 0o600); err != nil {
		return nil, err
	}
	if err := os.WriteFile(r.KeyFile, key, 0o600); err != nil {
		return nil, err
	}
	var err error
	if r.process, err = start(dir, roleReceive, r.ReceiverOptions); err != nil {
		return nil, err
	}
	return r, r.process.WaitReady(ctx, http.DefaultClient, "http://"+r.Control+"/healthz")
}

func (r *receiver) close() {
	if r.process != nil {
		r.process.Kill()
	}
	for _, c := range r.reserved {
		_ = c.Close() // a UDP socket that carried nothing
	}
}

// url is where a load's deliveries go.
func (r *receiver) url(l Load) string {
	if l.HTTP2 {
		return "https://" + r.HTTP2
	}
	return "https://" + r.HTTP1
}

// expect begins a new account.
func (r *receiver) expect(ctx context.Context, o Orders) error {
	content, err := json.Marshal(o)
	if err != nil {
		return err
	}
	_, err = fetch(ctx, http.MethodPost, "http://"+r.Control+"/orders", content)
	return err
}

// arrived waits until so many have arrived, or nothing more does.
func (r *receiver) arrived(ctx context.Context, unique, warm int) (so Arrived, err error) {
	query := fmt.Sprintf("http://%s/arrived?unique=%d&warm=%d", r.Control, unique, warm)
	moved, before := time.Now(), int64(-1)
	for time.Since(moved) < stalled {
		content, err := fetch(ctx, http.MethodGet, query, nil)
		if err != nil {
			return so, err
		}
		if err := json.Unmarshal(content, &so); err != nil {
			return so, err
		}
		if so.Unique >= int64(unique) && so.Warm >= int64(warm) {
			break
		}
		if sum := so.Unique + so.Warm; sum != before {
			moved, before = time.Now(), sum
		}
	}
	return so, nil
}

// fetch makes a request that is to be answered 200.
func fetch(ctx context.Context, method, url string, body []byte) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	defer func() { _ = response.Body.Close() }()
	content, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s %s: %s: %s", method, request.URL.Path, response.Status, content)
	}
	return content, err
}
