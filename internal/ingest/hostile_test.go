// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package ingest

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-logr/logr"

	"github.com/garyclub/webhook-operator/internal/event"
)

// spoken is a request as it is sent, and what is to come of it.
type spoken struct {
	raw string
	// want are the statuses of the answers, in order.
	want []int
	// field and line are what the last answer names.
	field string
	line  int
	// appended is how many events are stored.
	appended int
}

func spokenHead(headers ...string) string {
	return "POST " + Path + " HTTP/1.1\r\nHost: x\r\n" + strings.Join(headers, "\r\n") + "\r\n"
}

// posted is a request with that body.
func posted(contentType, body string, headers ...string) string {
	return spokenHead(append(headers, "Content-Type: "+contentType, fmt.Sprintf("Content-Length: %d", len(body)))...) + "\r\n" + body
}

func envelope(rest string) string {
	return `{"event":"custom.a","timestamp":"2026-01-01T00:00:00Z"` + rest + "}"
}

// bodies are those that are wrong as JSON, or look like it.
func bodies() map[string]spoken {
	of := func(body string, status int, field string) spoken {
		appended := 0
		if status == 202 {
			appended = 1
		}
		return spoken{raw: posted(jsonType, body), want: []int{status}, field: field, appended: appended}
	}
	deep := func(n int) string { return envelope(`,"d":` + strings.Repeat("[", n) + strings.Repeat("]", n)) }
	return map[string]spoken{
		"as deep as may be":               of(deep(event.MaxDepth-1), 202, ""),
		"too deep":                        of(deep(event.MaxDepth), 400, ""),
		"very deep":                       of(deep(50_000), 400, ""),
		"open brackets alone":             of(strings.Repeat("[", 200_000), 400, ""),
		"two types":                       of(envelope(`,"event":"custom.b"`), 400, ""),
		"two types, one escaped":          of(envelope(`,"\u0065vent":"custom.b"`), 400, ""),
		"two call ids":                    of(envelope(`,"call":{"id":"a","id":"b"}`), 400, ""),
		"a type in another case":          of(envelope(`,"Event":"custom.b","EVENT":"custom.c"`), 202, ""),
		"no UTF-8":                        of(envelope(",\"a\":\"\xc3\x28\""), 400, ""),
		"overlong UTF-8":                  of(envelope(",\"a\":\"\xc0\xaf\""), 400, ""),
		"a surrogate in UTF-8":            of(envelope(",\"a\":\"\xed\xa0\x80\""), 400, ""),
		"no UTF-8 in a name":              of(envelope(",\"\xff\":1"), 400, ""),
		"half a surrogate":                of(envelope(`,"a":"\ud800"`), 400, ""),
		"half a surrogate, the other one": of(envelope(`,"a":"\udc00x"`), 400, ""),
		"a pair of surrogates":            of(envelope(`,"a":"\ud83d\ude00"`), 202, ""),
		"a number beyond all":             of(envelope(`,"a":1e999`), 202, ""),
		"a number of 100,000 digits":      of(envelope(`,"a":`+strings.Repeat("9", 100_000)), 202, ""),
		"an exponent of 1,000 digits":     of(envelope(`,"a":1e`+strings.Repeat("9", 1000)), 202, ""),
		"a leading zero":                  of(envelope(`,"a":01`), 400, ""),
		"NaN":                             of(envelope(`,"a":NaN`), 400, ""),
		"a number as a type":              of(`{"event":1e999}`, 422, "event"),
		"a byte order mark":               of("\ufeff"+custom, 400, ""),
		"UTF-16":                          of("\xff\xfe{\x00}\x00", 400, ""),
		"garbage behind it":               of(custom+"x", 400, ""),
		"a NUL behind it":                 of(custom+"\x00", 400, ""),
		"a NUL in a text":                 of(envelope(",\"a\":\"\x00\""), 400, ""),
		"an escaped NUL in a text":        of(envelope(`,"a":"\u0000"`), 202, ""),
		"an escaped NUL in call.id":       of(envelope(`,"call":{"id":"\u0000"}`), 422, "call.id"),
		"a line break in a text":          of(envelope(",\"a\":\"\n\""), 400, ""),
		"a comment":                       of(envelope(`/**/`), 400, ""),
		"a trailing comma":                of(envelope(`,`), 400, ""),
		"single quotes":                   of(`{'event':'custom.a'}`, 400, ""),
		"too large":                       of(`"`+strings.Repeat("x", event.MaxPayloadBytes)+`"`, 413, ""),
		"as large as may be":              of(envelope(`,"a":"`+strings.Repeat("x", event.MaxPayloadBytes-len(envelope(`,"a":""`)))+`"`), 202, ""),
	}
}

// batches are those of more than one event.
func batches() map[string]spoken {
	of := func(body string, status, line, appended int) spoken {
		return spoken{raw: posted(ndjsonType, body), want: []int{status}, line: line, appended: appended}
	}
	lines := func(n int) string { return strings.Repeat(custom+"\n", n) }
	return map[string]spoken{
		"as many lines as may be":      of(lines(MaxBatchEvents), 202, 0, MaxBatchEvents),
		"a line too many":              of(lines(MaxBatchEvents+1), 413, 0, 0),
		"a million line breaks":        of(strings.Repeat("\n", 1_000_000), 413, 0, 0),
		"nothing but carriage returns": of(strings.Repeat("\r", 1_000_000), 400, 0, 0),
		"too many bytes":               of(strings.Repeat(strings.Repeat("x", 200_000)+"\n", 42), 413, 0, 0),
		"the last line is cut off":     of(lines(3)+`{"event":`, 400, 4, 0),
		"a NUL between lines":          of(custom+"\n\x00\n"+custom, 400, 2, 0),
		"an array":                     of("["+custom+","+custom+"]", 400, 1, 0),
	}
}

// shapes are requests that are wrong as HTTP.
func shapes() map[string]spoken {
	good := posted(jsonType, custom)
	length := fmt.Sprintf("Content-Length: %d", len(custom))
	json := "Content-Type: " + jsonType
	chunk := fmt.Sprintf("%x\r\n%s\r\n", len(custom), custom)
	keyed := func(value string) string { return posted(jsonType, custom, keyHeader+": "+value) }
	key := func(value string) spoken { return spoken{raw: keyed(value), want: []int{400}, field: keyHeader} }
	return map[string]spoken{
		"chunked":                      {raw: spokenHead(json, "Transfer-Encoding: chunked") + "\r\n" + chunk + "0\r\n\r\n", want: []int{202}, appended: 1},
		"bad chunk size":               {raw: spokenHead(json, "Transfer-Encoding: chunked") + "\r\nzz\r\n", want: []int{400}},
		"chunk size beyond all":        {raw: spokenHead(json, "Transfer-Encoding: chunked") + "\r\nfffffffffffffffff\r\n", want: []int{400}},
		"chunked twice":                {raw: spokenHead(json, "Transfer-Encoding: chunked", "Transfer-Encoding: chunked") + "\r\n" + chunk + "0\r\n\r\n", want: []int{501}},
		"another transfer encoding":    {raw: spokenHead(json, "Transfer-Encoding: gzip, chunked") + "\r\n", want: []int{501}},
		"chunked, oddly spelled":       {raw: spokenHead(json, "Transfer-Encoding: \x0bchunked") + "\r\n" + chunk + "0\r\n\r\n", want: []int{400}},
		"two lengths":                  {raw: spokenHead(json, length, "Content-Length: 5") + "\r\n" + custom, want: []int{400}},
		"a length and chunked":         {raw: spokenHead(json, length, "Transfer-Encoding: chunked") + "\r\n0\r\n\r\n" + custom, want: []int{400, 400}},
		"a length with a sign":         {raw: spokenHead(json, "Content-Length: +5") + "\r\nhello", want: []int{400}},
		"negative length":              {raw: spokenHead(json, "Content-Length: -1") + "\r\n", want: []int{400}},
		"a length beyond all":          {raw: spokenHead(json, "Content-Length: 99999999999999999999") + "\r\n", want: []int{400}},
		"a length too long":            {raw: spokenHead(json, "Content-Length: 1000") + "\r\n" + custom, want: []int{400}},
		"a length too short":           {raw: spokenHead(json, "Content-Length: 5") + "\r\n" + custom, want: []int{400, 400}},
		"a length of a terabyte":       {raw: spokenHead(json, "Content-Length: 1099511627776") + "\r\n", want: []int{413}},
		"a space before the colon":     {raw: spokenHead(json, "Content-Length : 5") + "\r\nhello", want: []int{400}},
		"a folded header":              {raw: spokenHead(json, length, "X: a\r\n b") + "\r\n" + custom, want: []int{202}, appended: 1},
		"a NUL in a header":            {raw: spokenHead(json, length, "X: a\x00b") + "\r\n" + custom, want: []int{400}},
		"a header of a megabyte":       {raw: spokenHead(json, length, "X: "+strings.Repeat("x", 1<<20)) + "\r\n" + custom, want: []int{431}},
		"a hundred thousand headers":   {raw: spokenHead(json, length, strings.Repeat("X: x\r\n", 100_000)+"Y: y") + "\r\n" + custom, want: []int{431}},
		"no host":                      {raw: "POST " + Path + " HTTP/1.1\r\n" + json + "\r\n" + length + "\r\n\r\n" + custom, want: []int{400}},
		"two hosts":                    {raw: spokenHead("Host: y", json, length) + "\r\n" + custom, want: []int{400}},
		"HTTP/1.0":                     {raw: strings.Replace(good, "HTTP/1.1", "HTTP/1.0", 1), want: []int{202}, appended: 1},
		"HTTP/0.9":                     {raw: "POST " + Path + "\r\n\r\n", want: []int{400}},
		"HTTP/2":                       {raw: "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", want: []int{404}},
		"HTTP/9.9":                     {raw: strings.Replace(good, "HTTP/1.1", "HTTP/9.9", 1), want: []int{505}},
		"TLS":                          {raw: "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", want: []int{400}},
		"pipelined":                    {raw: good + good + good, want: []int{202, 202, 202}, appended: 3},
		"pipelined behind a bad one":   {raw: posted(jsonType, "{") + good, want: []int{400, 202}, appended: 1},
		"pipelined behind a large one": {raw: posted(jsonType, strings.Repeat("x", 1<<20)) + good, want: []int{413}},
		"waits for 100":                {raw: posted(jsonType, custom, "Expect: 100-continue"), want: []int{100, 202}, appended: 1},
		"waits in vain":                {raw: posted("text/plain", custom, "Expect: 100-continue"), want: []int{415}},
		"waits for something else":     {raw: posted(jsonType, custom, "Expect: a-miracle"), want: []int{417}},
		"asks for an upgrade":          {raw: posted(jsonType, custom, "Connection: Upgrade", "Upgrade: h2c", "HTTP2-Settings: AAA"), want: []int{202}, appended: 1},

		"gzip":                    {raw: posted(jsonType, "\x1f\x8b\x08", "Content-Encoding: gzip"), want: []int{415}},
		"gzip behind identity":    {raw: posted(jsonType, custom, "Content-Encoding: identity", "Content-Encoding: gzip"), want: []int{415}},
		"gzip in a list":          {raw: posted(jsonType, custom, "Content-Encoding: identity, gzip"), want: []int{415}},
		"a form":                  {raw: posted("application/x-www-form-urlencoded", "a=b"), want: []int{415}},
		"two content types":       {raw: posted(jsonType, custom, "Content-Type: "+ndjsonType), want: []int{415}},
		"a content type of lies":  {raw: posted("application/json; charset=utf-16", custom), want: []int{415}},
		"no content type":         {raw: spokenHead(length) + "\r\n" + custom, want: []int{415}},
		"GET":                     {raw: strings.Replace(good, "POST", "GET", 1), want: []int{405}},
		"a method of ours":        {raw: strings.Replace(good, "POST", "POSTPOST", 1), want: []int{405}},
		"CONNECT":                 {raw: "CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n", want: []int{404}},
		"the asterisk":            {raw: "OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n", want: []int{200}},
		"a path upwards":          {raw: strings.Replace(good, Path, "/v1/../v1/events", 1), want: []int{404}},
		"a path with two slashes": {raw: strings.Replace(good, Path, "//v1/events", 1), want: []int{404}},
		"a path with a NUL":       {raw: strings.Replace(good, Path, Path+"%00", 1), want: []int{404}},
		"a path of a megabyte":    {raw: strings.Replace(good, Path, "/"+strings.Repeat("a", 1<<20), 1), want: []int{431}},
		"an absolute URL":         {raw: strings.Replace(good, Path, "http://elsewhere"+Path, 1), want: []int{202}, appended: 1},

		"a key in UTF-8":            key("caf\xc3\xa9"),
		"a key of raw bytes":        key("\xff\xfe"),
		"a key with a tab":          key("a\tb"),
		"a key of a kilobyte":       key(strings.Repeat("k", 1<<10)),
		"an empty key":              key(""),
		"a key of two values":       key("a\r\n" + keyHeader + ": b"),
		"a key in open quotes":      key(`"a`),
		"a key with a bad escape":   key(`"\a"`),
		"a key that is a structure": key(`"a";b=c`),
		"a key with a comma":        {raw: keyed("a,b"), want: []int{202}, appended: 1},
	}
}

// TestHostileProducers sends each request over a connection of its own to the real server, and holds what comes against
// the table. A good producer posts all along.
func TestHostileProducers(t *testing.T) {
	for group, all := range map[string]map[string]spoken{"body": bodies(), "batch": batches(), "shape": shapes()} {
		for name, tc := range all {
			t.Run(group+"/"+name, func(t *testing.T) {
				t.Parallel()
				f := started(t)
				statuses, last := speak(t, f, tc.raw)
				if fmt.Sprint(statuses) != fmt.Sprint(tc.want) {
					t.Fatalf("answered %v %s, want %v", statuses, last, tc.want)
				}
				var p struct {
					Field string
					Line  int
				}
				if bytes.HasPrefix(last, []byte("{")) {
					if err := json.Unmarshal(last, &p); err != nil {
						t.Errorf("the answer is no JSON: %s", last)
					}
				}
				if p.Field != tc.field || p.Line != tc.line {
					t.Errorf("the answer names field %q and line %d, want %q and %d", p.Field, p.Line, tc.field, tc.line)
				}
				if n := len(f.queue.appended()); n != tc.appended {
					t.Errorf("%d events were appended, want %d", n, tc.appended)
				}
				c := dial(t, f)
				if got, _ := send(t, c, bufio.NewReader(c), custom); got != 202 {
					t.Errorf("a good producer was answered %d", got)
				}
				if left := f.server.buffer.left.Load(); left != f.server.opt.MaxBufferedBytes {
					t.Errorf("%d bytes are left, want all", left)
				}
			})
		}
	}
}

// speak says all at once and hangs up its end, as one does that wants no more; it returns the statuses of the answers and
// the body of the last one.
func speak(t *testing.T, f *fixture, raw string) (statuses []int, last []byte) {
	t.Helper()
	c := dial(t, f)
	go func() {
		_, _ = io.WriteString(c, raw) // the server may have heard enough
		_ = c.(*net.TCPConn).CloseWrite()
	}()
	in := bufio.NewReader(c)
	for {
		answer, err := http.ReadResponse(in, nil)
		if err != nil {
			return statuses, last // it has hung up; what is lost of its answer by a reset is caught by the table
		}
		statuses = append(statuses, answer.StatusCode)
		last, _ = io.ReadAll(answer.Body)
		_ = answer.Body.Close()
	}
}

// TestSlowProducersAreCutOff says each text and nothing more. The time is a bubble's.
func TestSlowProducersAreCutOff(t *testing.T) {
	head := spokenHead("Content-Type: "+jsonType, "Content-Length: 1000")
	for name, tc := range map[string]struct {
		said string
		// byte is said again each second.
		byte       string
		within     time.Duration
		wantStatus int // 0 for none
	}{
		"says nothing":                 {"", "", readHeaderTimeout, 0},
		"stops in the request line":    {"POST /v1", "", readHeaderTimeout, 400},
		"stops in the headers":         {"POST /v1/events HTTP/1.1\r\nHost: x\r\nX-A", "", readHeaderTimeout, 400},
		"says a header byte a second":  {"POST /v1/events HTTP/1.1\r\nHost: x\r\nX-A: ", "a", readHeaderTimeout, 0},
		"stops before the body":        {head + "\r\n", "", readTimeout, 408},
		"stops in the body":            {head + "\r\n{", "", readTimeout, 408},
		"says a body byte a second":    {head + "\r\n{", " ", readTimeout, 408},
		"says a chunk a second":        {spokenHead("Content-Type: "+jsonType, "Transfer-Encoding: chunked") + "\r\n", "1\r\n \r\n", readTimeout, 408},
		"is idle after a good request": {posted(jsonType, custom), "", idleTimeout, 202},
		"is idle after a bad request":  {posted(jsonType, "{"), "", idleTimeout, 400},
		"stops in the second request":  {posted(jsonType, custom) + "POST /v1", "", readHeaderTimeout, 202},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				near, far := net.Pipe()
				l := &oneConnection{conn: make(chan net.Conn, 1), closed: make(chan struct{})}
				l.conn <- far
				f := newFixture(func(o *Options) { o.Now = time.Now })
				server := f.server.httpServer(t.Context(), logr.Discard())
				go func() { _ = server.Serve(l) }()
				left := make(chan struct{})
				go func() {
					defer close(left)
					drip(near, tc.said, tc.byte)
				}()
				begin := time.Now()
				in := bufio.NewReader(near)
				status := 0
				if answer, err := http.ReadResponse(in, nil); err == nil {
					status = answer.StatusCode
					_, _ = io.Copy(io.Discard, answer.Body)
					_ = answer.Body.Close()
				}
				_, _ = io.Copy(io.Discard, in)
				if took := time.Since(begin); took < tc.within-time.Second || took > tc.within+time.Second {
					t.Errorf("it was cut off after %s, want %s", took, tc.within)
				}
				if status != tc.wantStatus {
					t.Errorf("answered %d, want %d", status, tc.wantStatus)
				}
				_ = near.Close()
				_ = server.Close()
				<-left
			})
		})
	}
}

func drip(c net.Conn, said, again string) {
	if _, err := io.WriteString(c, said); err != nil || again == "" {
		return
	}
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for range tick.C {
		if _, err := io.WriteString(c, again); err != nil {
			return
		}
	}
}

// TestManySlowBodiesHoldUpNobody: more of them than there are slots, and announced to be more than there is memory.
func TestManySlowBodiesHoldUpNobody(t *testing.T) {
	f := started(t, func(o *Options) { o.MaxConcurrent = 4 })
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	const many = 500
	var all sync.WaitGroup
	for range many {
		c := dial(t, f)
		all.Go(func() {
			_, _ = io.WriteString(c, spokenHead("Content-Type: "+ndjsonType, fmt.Sprintf("Content-Length: %d", MaxBatchBytes))+"\r\n{")
		})
	}
	all.Wait()
	taken := func() int64 { return f.server.opt.MaxBufferedBytes - f.server.buffer.left.Load() }
	for deadline := time.Now().Add(10 * time.Second); taken() < many*firstRead && time.Now().Before(deadline); {
		runtime.Gosched()
	}
	if got := taken(); got != many*firstRead {
		t.Errorf("%d slow bodies take %d bytes of the memory, want %d", many, got, many*firstRead)
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 32<<20 {
		t.Errorf("they take %d KiB of the heap", grown>>10)
	}
	for range 100 {
		c := dial(t, f)
		if got, _ := send(t, c, bufio.NewReader(c), custom); got != 202 {
			t.Fatalf("a good producer was answered %d", got)
		}
		_ = c.Close()
	}
}

// TestEndlessBodyIsCutOff: a chunked body that does not end is read to its limit, and not for ever after it.
func TestEndlessBodyIsCutOff(t *testing.T) {
	for contentType, limit := range map[string]int{jsonType: event.MaxPayloadBytes, ndjsonType: MaxBatchBytes} {
		f := started(t)
		c := dial(t, f)
		if _, err := io.WriteString(c, spokenHead("Content-Type: "+contentType, "Transfer-Encoding: chunked")+"\r\n"); err != nil {
			t.Fatal(err)
		}
		written := make(chan int)
		go func() {
			n := 0
			for chunk := "1000\r\n" + strings.Repeat(" ", 4096) + "\r\n"; ; {
				more, err := io.WriteString(c, chunk)
				n += more
				if err != nil {
					break
				}
			}
			written <- n
		}()
		answer, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil || answer.StatusCode != 413 {
			t.Fatalf("%s: answered %+v, %v", contentType, answer, err)
		}
		_ = answer.Body.Close()
		// Beyond the limit: what lies in the socket buffers of both sides.
		if n := <-written; n > limit+16<<20 {
			t.Errorf("%s: the producer got rid of %d bytes", contentType, n)
		}
	}
}
