// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/garyclub/webhook-operator/internal/sign"
)

// ceilingConnections is how many requests the bare loop has under way. On two cores 32 to 128 are as fast as each other; 8,
// 16 and 256 are slower.
const ceilingConnections = 64

// CeilingOptions are those of the bare loop.
type CeilingOptions struct {
	Load
	// URL is the receiver's, without a path.
	URL    string
	CAFile string
	Key    string
}

// Climbed is what the bare loop has used.
type Climbed struct {
	Start      time.Time
	CPUSeconds float64
}

// climb signs and posts each event of the load, and does nothing else: what a sender without a queue, without retries and
// without records could do here. Its client is what the comparison is with, so it is not to be changed without saying so.
func climb(o CeilingOptions) (Climbed, error) {
	key, err := sign.ParseKey(o.Key)
	if err != nil {
		return Climbed{}, err
	}
	transport, err := ceilingTransport(o)
	if err != nil {
		return Climbed{}, err
	}
	c := &climbing{CeilingOptions: o, keys: [][]byte{key}, transport: transport}
	start := time.Now()
	var all errgroup.Group
	for range ceilingConnections {
		all.Go(c.work)
	}
	if err := all.Wait(); err != nil {
		return Climbed{}, err
	}
	return Climbed{Start: start, CPUSeconds: ownCPU().Seconds()}, nil
}

// ceilingTransport keeps every connection alive and offers nothing that the receiver would not use.
func ceilingTransport(o CeilingOptions) (*http.Transport, error) {
	pem, err := os.ReadFile(o.CAFile)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, errors.New("no certificate in " + o.CAFile)
	}
	t := &http.Transport{
		TLSClientConfig:     &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots},
		MaxIdleConns:        0, // no bound
		MaxIdleConnsPerHost: ceilingConnections,
		DisableCompression:  true,
		ForceAttemptHTTP2:   o.HTTP2,
		WriteBufferSize:     64 * kiB, // a body goes out in one write
	}
	if !o.HTTP2 {
		t.MaxConnsPerHost = ceilingConnections // it would dial more while it waits for one
	}
	return t, nil
}

type climbing struct {
	CeilingOptions
	keys      [][]byte
	transport *http.Transport
	next      atomic.Int64
}

func (c *climbing) work() error {
	body := newBody(c.BodyBytes)
	for {
		number := c.next.Add(1) - 1
		if number >= int64(c.Events) {
			return nil
		}
		now, group := time.Now(), int(number)%c.Groups
		stamp(body, number, now, group)
		if err := c.post(group, number, now, body); err != nil {
			return err
		}
	}
}

func (c *climbing) post(endpoint int, number int64, now time.Time, body []byte) error {
	request, err := http.NewRequest(http.MethodPost, c.URL+pathOf(endpoint), bytes.NewReader(body)) //nolint:noctx // it ends with the process
	if err != nil {
		return err
	}
	id, timestamp := "evt_"+strconv.FormatInt(number, 10), sign.Timestamp(now)
	request.Header = http.Header{
		"Content-Type":      {"application/json"},
		"Webhook-Id":        {id},
		"Webhook-Timestamp": {timestamp},
		"Webhook-Signature": {sign.Signature(c.keys, id, timestamp, body)},
	}
	response, err := c.transport.RoundTrip(request)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, response.Body)
	_ = response.Body.Close() // it was read
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("the receiver answers %d", response.StatusCode)
	}
	return err
}
