// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package prober

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"strconv"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// echo answers each byte with itself.
func echo(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				_, _ = io.Copy(conn, conn)
			}()
		}
	}()
	return listener.Addr().String()
}

func startProxy(t *testing.T) *Proxy {
	t.Helper()
	p, err := StartProxy(echo(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

func connect(t *testing.T, p *Proxy) net.Conn {
	t.Helper()
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(p.Port())))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// say sends a byte and waits for it to come back.
func say(conn net.Conn, patience time.Duration) error {
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	if _, err := conn.Write([]byte{7}); err != nil {
		return err
	}
	_, err := io.ReadFull(conn, make([]byte, 1))
	return err
}

func TestALineThatIsUp(t *testing.T) {
	p := startProxy(t)
	conn := connect(t, p)
	for range 3 {
		if err := say(conn, 10*time.Second); err != nil {
			t.Fatal(err)
		}
	}
	p.Cut()
	if err := say(conn, 10*time.Second); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("after a cut: %v, want the end of the connection", err)
	}
	if err := say(connect(t, p), 10*time.Second); err != nil {
		t.Errorf("the next connection: %v", err)
	}
}

func TestALineThatIsCut(t *testing.T) {
	p := startProxy(t)
	conn := connect(t, p)
	if err := say(conn, 10*time.Second); err != nil {
		t.Fatal(err)
	}
	p.Set(LineCut)
	if err := say(conn, 10*time.Second); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("an old connection: %v, want its end", err)
	}
	if err := say(connect(t, p), 10*time.Second); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a new connection: %v, want its end", err)
	}
	p.Set(LineUp)
	if err := say(connect(t, p), 10*time.Second); err != nil {
		t.Errorf("once it is mended: %v", err)
	}
}

func TestALineThatIsHalfOpen(t *testing.T) {
	p := startProxy(t)
	p.Set(LineHalfOpen)
	conn := connect(t, p)
	if err := say(conn, 200*time.Millisecond); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("%v, want that nothing comes and nothing ends", err)
	}
	p.Set(LineUp)
	if err := say(conn, 10*time.Second); err == nil {
		t.Error("what was swallowed came through later")
	}
}

func TestALineThatIsSlow(t *testing.T) {
	p := startProxy(t)
	p.Set(LineSlow)
	begun := time.Now()
	if err := say(connect(t, p), 10*time.Second); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(begun); took < 2*slowPause {
		t.Errorf("there and back took %s, want %s at least", took, 2*slowPause)
	}
}

func TestALineThatResets(t *testing.T) {
	p := startProxy(t)
	p.Set(LineReset)
	conn := connect(t, p)
	came := 0
	for say(conn, 10*time.Second) == nil {
		came++
	}
	if came != resetAfter {
		t.Errorf("%d pieces came back before the end, want %d", came, resetAfter)
	}
}

func TestNamesAreAnswered(t *testing.T) {
	name := dnsmessage.MustNewName("r1." + zone + ".")
	for text, tc := range map[string]struct {
		name    dnsmessage.Name
		kind    dnsmessage.Type
		lookups Lookups
		want    dnsmessage.RCode
		answers int
	}{
		"an address":               {name: name, kind: dnsmessage.TypeA, answers: 1},
		"no address of version 6":  {name: name, kind: dnsmessage.TypeAAAA},
		"a name of somebody else":  {name: dnsmessage.MustNewName("example.com."), kind: dnsmessage.TypeA, want: dnsmessage.RCodeNameError},
		"a failure when it is due": {name: name, kind: dnsmessage.TypeA, lookups: LookupsFailing, want: dnsmessage.RCodeServerFailure},
	} {
		query := dnsmessage.Message{Header: dnsmessage.Header{ID: 9, RecursionDesired: true},
			Questions: []dnsmessage.Question{{Name: tc.name, Type: tc.kind, Class: dnsmessage.ClassINET}}}
		packed, err := query.Pack()
		if err != nil {
			t.Fatal(err)
		}
		reply, err := answerTo(packed, tc.lookups)
		if err != nil {
			t.Fatal(err)
		}
		var m dnsmessage.Message
		if err := m.Unpack(reply); err != nil {
			t.Fatal(err)
		}
		if m.ID != 9 || !m.Response || m.RCode != tc.want || len(m.Answers) != tc.answers {
			t.Errorf("%s: %+v", text, m)
		}
	}
	if _, err := answerTo([]byte("nonsense"), LookupsUp); err == nil {
		t.Error("nonsense was answered")
	}
}

func TestLedgerLines(t *testing.T) {
	want := Arrival{NoteTaken, "/a/b", "evt_1", "call_1", "0123", true}
	line := string(want.line())
	got, err := parseArrival(line[:len(line)-1])
	if err != nil || got != want {
		t.Errorf("%+v, error %v, want %+v", got, err, want)
	}
	if _, err := parseArrival("taken\t/a/b"); err == nil {
		t.Error("half a line was taken for a whole one")
	}
}

func TestAwaitEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	if !await(ctx, time.Millisecond) {
		t.Error("the time did not pass")
	}
	cancel()
	if await(ctx, time.Hour) || await(ctx, 0) {
		t.Error("the time passed although nobody waits any more")
	}
}
