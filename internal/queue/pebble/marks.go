// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package pebble

import (
	"encoding/binary"
	"hash/crc32"
	"sync"

	"github.com/cockroachdb/pebble/v2/vfs"
)

const (
	// markSlots bounds the leases whose interruption can be known; one beyond them is held without a mark.
	markSlots = 4096
	markSize  = placeSize + 4
)

// marks is the file of what is in flight: slots of a place and its CRC-32C each, overwritten in place and never synced,
// since what a dying process has written the operating system still has. A slot of a delivery that was settled need not
// be cleared: nothing waits at that place any more.
type marks struct {
	mu      sync.Mutex
	file    vfs.File // nil once closed
	spare   []int
	used    int
	scratch [markSize]byte
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func appendMark(dst []byte, p place) []byte {
	dst = p.append(dst)
	return binary.BigEndian.AppendUint32(dst, crc32.Checksum(dst[len(dst)-placeSize:], castagnoli))
}

func parseMark(b []byte) (place, bool) {
	if len(b) != markSize {
		return place{}, false
	}
	p, ok := parsePlace(b[:placeSize])
	// The sum of zeros is not zero, so an empty slot does not pass.
	return p, ok && binary.BigEndian.Uint32(b[placeSize:]) == crc32.Checksum(b[:placeSize], castagnoli)
}

// parseMarks returns the places that are marked in the file's content.
func parseMarks(content []byte) []place {
	var places []place
	for len(content) >= markSize {
		if p, ok := parseMark(content[:markSize]); ok {
			places = append(places, p)
		}
		content = content[markSize:]
	}
	return places
}

// set marks p as in flight. It returns the slot, or -1. A mark that cannot be written is no reason not to deliver.
func (m *marks) set(p place) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	slot := -1
	if n := len(m.spare); n > 0 {
		slot, m.spare = m.spare[n-1], m.spare[:n-1]
	} else if m.used < markSlots {
		slot = m.used
		m.used++
	}
	m.write(slot, appendMark(m.scratch[:0], p))
	return slot
}

// clear wipes the slot of a delivery that goes on waiting at its place.
func (m *marks) clear(slot int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	clear(m.scratch[:])
	m.write(slot, m.scratch[:])
	m.recycle(slot)
}

// free gives back the slot of a delivery that left its place.
func (m *marks) free(slot int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.recycle(slot)
}

func (m *marks) write(slot int, content []byte) {
	if slot >= 0 && m.file != nil {
		_, _ = m.file.WriteAt(content, int64(slot)*markSize)
	}
}

func (m *marks) recycle(slot int) {
	if slot >= 0 {
		m.spare = append(m.spare, slot)
	}
}

// close ends the use of the file.
func (m *marks) close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.file == nil {
		return nil
	}
	err := m.file.Close()
	m.file = nil
	return err
}
