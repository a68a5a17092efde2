// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

// GeneratorOptions are those of the generator process.
type GeneratorOptions struct {
	Load
	// Address is where the dispatcher takes events.
	Address string
	// Connections is how many requests may be under way.
	Connections int
}

// Generated is what the generator has seen.
type Generated struct {
	Start, End time.Time
	// Refused are requests that were answered 503 and made again.
	Refused int64
	// Ingest is from the time at which a request was to be made to its 202; Late is how much later it was begun.
	Ingest, Late Percentiles
}

// refusedPause is how long a request waits that was answered 503.
const refusedPause = 5 * time.Millisecond

// generate posts all events of the load, each until it is accepted. At a rate it posts each at its time, and counts from
// that time on, so that a dispatcher that stalls does not have fewer requests made of it. Beyond its connections it would
// do so, which Late tells.
func generate(o GeneratorOptions) (Generated, error) {
	g := &generating{GeneratorOptions: o, start: time.Now()}
	if o.Rate > 0 {
		g.start = g.start.Add(100 * time.Millisecond)
	}
	var all errgroup.Group
	for range o.Connections {
		all.Go(g.work)
	}
	err := all.Wait()
	return Generated{Start: g.start, End: time.Now(), Refused: g.refused.Load(), Ingest: g.ingest.Percentiles(), Late: g.late.Percentiles()}, err
}

type generating struct {
	GeneratorOptions
	start        time.Time
	next         atomic.Int64
	refused      atomic.Int64
	ingest, late Histogram
}

// work is what one connection does.
func (g *generating) work() error {
	p := newPost(g.Load)
	c := &connection{address: g.Address}
	defer c.close()
	for {
		first := g.next.Add(int64(g.Batch)) - int64(g.Batch)
		if first >= int64(g.Events) {
			return nil
		}
		due := g.due(first)
		time.Sleep(time.Until(due))
		p.stamp(first, due)
		g.late.Add(time.Since(due))
		if err := g.insist(c, p); err != nil {
			return err
		}
		g.ingest.Add(time.Since(due))
	}
}

// due is when the request that begins with this event is to be made.
func (g *generating) due(number int64) time.Time {
	if g.Rate == 0 {
		return time.Now()
	}
	return g.start.Add(time.Duration(float64(number) / g.Rate * float64(time.Second)))
}

// insist makes a request until it is accepted.
func (g *generating) insist(c *connection, p *post) error {
	for {
		status, err := c.do(p.request)
		switch {
		case err != nil:
			return err
		case status == http.StatusAccepted:
			return nil
		case status != http.StatusServiceUnavailable:
			return fmt.Errorf("the dispatcher answers %d", status)
		}
		g.refused.Add(1)
		time.Sleep(refusedPause)
	}
}

// post is a request that is made once and stamped for each use.
type post struct {
	load    Load
	request []byte
	bodies  [][]byte // within request
}

// newPost makes a request of Batch events. The last request of a load may hold events beyond its number: Events is a
// multiple of Batch in all cases.
func newPost(l Load) *post {
	content, body := "application/json", newBody(l.BodyBytes)
	if l.Batch > 1 {
		content = "application/x-ndjson"
	}
	all := bytes.Repeat(append(body, '\n'), l.Batch)
	all = all[:len(all)-1]
	p := &post{load: l, request: fmt.Appendf(nil, "POST /v1/events HTTP/1.1\r\nHost: dispatcher\r\nContent-Type: %s\r\nContent-Length: %s\r\n\r\n%s",
		content, strconv.Itoa(len(all)), all)}
	rest := p.request[len(p.request)-len(all):]
	for i := range l.Batch {
		at := i * (l.BodyBytes + 1)
		p.bodies = append(p.bodies, rest[at:at+l.BodyBytes])
	}
	return p
}

func (p *post) stamp(first int64, due time.Time) {
	for i, body := range p.bodies {
		number := first + int64(i)
		stamp(body, number, due, int(number)%p.load.Groups)
	}
}

// connection is one to the dispatcher. It speaks just enough HTTP that the generator is not what is measured.
type connection struct {
	address string
	conn    net.Conn
	reader  *bufio.Reader
}

// do makes one request and reads its answer.
func (c *connection) do(request []byte) (status int, err error) {
	if c.conn == nil {
		if c.conn, err = new(net.Dialer).DialContext(context.Background(), "tcp", c.address); err != nil {
			return 0, err
		}
		c.reader = bufio.NewReaderSize(c.conn, 16*kiB)
	}
	if _, err := c.conn.Write(request); err != nil {
		return 0, err
	}
	response, err := http.ReadResponse(c.reader, nil)
	if err != nil {
		return 0, err
	}
	_, err = io.Copy(io.Discard, response.Body)
	_ = response.Body.Close() // it was read
	if response.Close {
		c.close()
	}
	return response.StatusCode, err
}

func (c *connection) close() {
	if c.conn != nil {
		_ = c.conn.Close() // nothing is under way
		c.conn = nil
	}
}
