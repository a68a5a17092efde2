// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package egress

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"strings"
	"sync/atomic"
)

// once sees to it that a receiver sees one request for each attempt. net/http repeats requests by itself, in cases of
// which one is welcome: the receiver had closed a connection that was kept, before a byte of the request was written.
//
//   - Over HTTP/1 it asks for the body again in that case alone, unless a header makes it take the request for one that
//     may be repeated; see notReplayable.
//   - Over HTTP/2 it also repeats a request whose stream the receiver reset with REFUSED_STREAM or PROTOCOL_ERROR, or
//     that a GOAWAY left out, as often as the time allows: thousands of times. A receiver that counts requests has seen
//     each of them, and that it did not act on them is its word alone, so from the first header on there is no body to
//     repeat: the attempt fails, and the schedule decides. Before that, another connection is taken as over HTTP/1.
type once struct {
	body []byte
	// streamed says that the request's header was given to an HTTP/2 connection.
	streamed atomic.Bool
}

// again is asked for the body when the request is to be repeated.
func (o *once) again() (io.ReadCloser, error) {
	if o.streamed.Load() {
		return nil, ErrReset // the receiver may have seen the request
	}
	return io.NopCloser(bytes.NewReader(o.body)), nil
}

// trace watches the request, and ends one whose receiver sends informational answers without end.
func (o *once) trace() *httptrace.ClientTrace {
	var got int
	return &httptrace.ClientTrace{
		GotConn: metered,
		WroteHeaderField: func(name string, _ []string) {
			if strings.HasPrefix(name, ":") { // HTTP/2 alone has such, and they come first
				o.streamed.Store(true)
			}
		},
		Got1xxResponse: func(int, textproto.MIMEHeader) error {
			if got++; got > max1xx {
				return ErrAnswer
			}
			return nil
		},
	}
}

// notReplayable hides from net/http the headers at whose sight it repeats a POST that the receiver may have seen. It
// looks for their canonical form; the receiver, to whom case means nothing, gets them in lower case.
func notReplayable(header http.Header) {
	for _, name := range []string{"Idempotency-Key", "X-Idempotency-Key"} {
		if values, ok := header[name]; ok {
			delete(header, name)
			header[strings.ToLower(name)] = values
		}
	}
}
