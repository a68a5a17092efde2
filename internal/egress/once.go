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

// once sees to it that a receiver acts on one request for each attempt. The transport repeats requests by itself, in
// cases of which two are welcome: the receiver had closed a connection that was kept, before a byte of the request was
// written; and the receiver says that it has not processed the request.
//
//   - Over HTTP/1 the body is asked for again in the first case alone, unless a header makes net/http take the request for
//     one that may be repeated; see notReplayable.
//   - Over HTTP/2 it is also asked for when a GOAWAY left the request's stream out, as each does that announces an ordinary
//     shutdown too late, or when the stream was reset with REFUSED_STREAM. RFC 9113 (6.8, 8.7) has both mean that nothing of
//     the request was processed. The transport would repeat it as often as the time allows, and a receiver that says so
//     each time has nothing for us: after maxStreams there is no body to repeat, the attempt fails, and the schedule
//     decides. Whatever else ends a stream, the request may have been processed, and the body is not asked for.
type once struct {
	body []byte
	// streams counts how often the request's header was given to an HTTP/2 connection.
	streams atomic.Int64
}

// maxStreams is how many HTTP/2 streams an attempt may take: one, and one for a request that was not processed.
const maxStreams = 2

// again is asked for the body when the request is to be repeated.
func (o *once) again() (io.ReadCloser, error) {
	if o.streams.Load() >= maxStreams {
		return nil, ErrReset
	}
	return io.NopCloser(bytes.NewReader(o.body)), nil
}

// trace watches the request, and ends one whose receiver sends informational answers without end.
func (o *once) trace() *httptrace.ClientTrace {
	var got int
	return &httptrace.ClientTrace{
		GotConn: metered,
		WroteHeaderField: func(name string, _ []string) {
			if name == ":method" { // HTTP/2 alone has it, once in each header
				o.streams.Add(1)
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
