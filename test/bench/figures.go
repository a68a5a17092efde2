// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"math"
	"time"
)

// Figure names one thing that is measured. A case has those that make sense for it.
type Figure string

// The figures. What is counted is counted from the end of the warm-up until everything has been delivered.
const (
	DeliveriesPerSecond    Figure = "deliveriesPerSecond"
	CeilingPerSecond       Figure = "ceilingPerSecond"
	CeilingRatio           Figure = "ceilingRatio"
	CPUPer1000             Figure = "cpuSecondsPer1000"
	CeilingCPUPer1000      Figure = "ceilingCPUSecondsPer1000"
	IngestPerSecond        Figure = "ingestedPerSecond"
	IngestP50              Figure = "ingestP50Millis"
	IngestP99              Figure = "ingestP99Millis"
	IngestP999             Figure = "ingestP999Millis"
	IngestMax              Figure = "ingestMaxMillis"
	EndToEndP50            Figure = "endToEndP50Millis"
	EndToEndP99            Figure = "endToEndP99Millis"
	EndToEndP999           Figure = "endToEndP999Millis"
	EndToEndMax            Figure = "endToEndMaxMillis"
	LateP99                Figure = "generatorLateP99Millis"
	Refused                Figure = "refused"
	PeakMiB                Figure = "peakMiB"
	WaitingMiB             Figure = "waitingMiB" // the peak when all wait
	ResidentMiB            Figure = "residentMiB"
	Connections            Figure = "connectionsOpened"
	ConnectionsWarm        Figure = "connectionsOpenedInWarmUp"
	DeliveriesByConnection Figure = "deliveriesPerConnection"
	Fsyncs                 Figure = "fsyncs"
	APIWrites              Figure = "apiWrites"
	APIWritesAllowed       Figure = "apiWritesAllowed"
	Seconds                Figure = "seconds"
	Unrecorded             Figure = "recordsNotTaken" // by the manager, at the end
	ReadySeconds           Figure = "readySeconds"
	IdleCPUPercent         Figure = "idleCPUPercent"
	ThroughputRatio        Figure = "throughputRatio" // to the run that it is compared with
	CostRatio              Figure = "costRatio"
	OtherEndToEndP99       Figure = "comparedEndToEndP99Millis"
	OtherPerSecond         Figure = "comparedDeliveriesPerSecond"
	OtherCPUPer1000        Figure = "comparedCPUSecondsPer1000"
	Lost                   Figure = "lost"
	Duplicates             Figure = "duplicates"
	Wrong                  Figure = "wrong"
)

// worst are those of which a median would hide what must not be at all.
var worst = map[Figure]bool{Lost: true, Duplicates: true, Wrong: true}

// Figures are what one run has measured.
type Figures map[Figure]float64

// combine makes one of those of several runs: the median of each, of some the most.
func combine(runs []Figures) Figures {
	values := map[Figure][]float64{}
	for _, run := range runs {
		for name, value := range run {
			values[name] = append(values[name], value)
		}
	}
	all := Figures{}
	for name, of := range values {
		all[name] = median(of)
		if worst[name] {
			all[name] = largest(of)
		}
	}
	return all
}

func largest(values []float64) float64 {
	most := math.Inf(-1)
	for _, v := range values {
		most = max(most, v)
	}
	return most
}

// compare adds what a run is in relation to the one before it.
func (f Figures) compare(other Figures) {
	f[OtherEndToEndP99], f[OtherPerSecond], f[OtherCPUPer1000] = other[EndToEndP99], other[DeliveriesPerSecond], other[CPUPer1000]
	f.ratio(ThroughputRatio, f[DeliveriesPerSecond], other[DeliveriesPerSecond])
	f.ratio(CostRatio, f[CPUPer1000], other[CPUPer1000])
}

// climb adds what a run is in relation to its ceiling.
func (f Figures) climb(ceiling Figures) {
	f[CeilingPerSecond], f[CeilingCPUPer1000] = ceiling[DeliveriesPerSecond], ceiling[CPUPer1000]
	f.ratio(CeilingRatio, f[DeliveriesPerSecond], ceiling[DeliveriesPerSecond])
}

func (f Figures) ratio(name Figure, value, to float64) {
	if to > 0 {
		f[name] = value / to
	}
}

func (f Figures) latency(of Percentiles, p50, p99, p999, most Figure) {
	if of.Count > 0 {
		f[p50], f[p99], f[p999], f[most] = millis(of.P50), millis(of.P99), millis(of.P999), millis(of.Max)
	}
}

func millis(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

func mebibytes(n int64) float64 { return float64(n) / (1 << 20) }
