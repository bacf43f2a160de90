import Foundation
import Synchronization
import Telemetry
import Testing

@Suite struct TelemetryTests {
    @Test func `both forms of exposition say the same, each in its grammar`() {
        let registry = MetricRegistry()
        registry.counter(MetricDescription("reeve_runs_total", .counter, "Runs\nthat ended.", labels: ["task"]))
            .increment(by: 2, "a\"b\\c\nd")
        registry.gauge(MetricDescription("reeve_up", .gauge, "Up.")).set(1)
        let histogram = registry.histogram(
            MetricDescription("reeve_seconds", .histogram, "Seconds.", buckets: [0.5, 1]))
        for value in [0.1, 0.7, 5] { histogram.observe(value) }
        let text = ExpositionFormat.text.render(registry.snapshot())
        #expect(
            text == """
                # HELP reeve_runs_total Runs\\nthat ended.
                # TYPE reeve_runs_total counter
                reeve_runs_total{task="a\\"b\\\\c\\nd"} 2
                # HELP reeve_seconds Seconds.
                # TYPE reeve_seconds histogram
                reeve_seconds_bucket{le="0.5"} 1
                reeve_seconds_bucket{le="1"} 2
                reeve_seconds_bucket{le="+Inf"} 3
                reeve_seconds_sum 5.8
                reeve_seconds_count 3
                # HELP reeve_up Up.
                # TYPE reeve_up gauge
                reeve_up 1

                """)
        let open = ExpositionFormat.openMetrics.render(registry.snapshot())
        #expect(open.contains("# TYPE reeve_runs counter\nreeve_runs_total{"))
        #expect(open.hasSuffix("# EOF\n"))
    }

    @Test func `counters never fall, and series beyond the limit are dropped and counted`() {
        let registry = MetricRegistry(seriesLimit: 2)
        let counter = registry.counter(MetricDescription("c_total", .counter, "C.", labels: ["l"]))
        counter.increment(by: -5, "a")
        counter.increment(by: 7, "a")
        for label in ["b", "c", "d"] { counter.increment(label) }
        let text = ExpositionFormat.text.render(registry.snapshot())
        #expect(text.contains("c_total{l=\"a\"} 7"))
        #expect(!text.contains("l=\"c\""))
        #expect(text.contains("reeve_metric_series_dropped_total 2"))
    }

    @Test func `a sample takes the place of the last one of its source, and of no other`() {
        let registry = MetricRegistry(seriesLimit: 3)
        let metric = MetricDescription("g", .gauge, "G.", labels: ["l"])
        func put(_ source: String, _ values: [String: Double]) {
            var sample = MetricSample()
            for (label, value) in values { sample.set(metric, value, label) }
            sample.set(metric, 1, "too", "many")
            registry.replace(source, with: sample)
        }
        func lines() -> [String] {
            ExpositionFormat.text.render(registry.snapshot()).split(separator: "\n").map(String.init)
                .filter { !$0.hasPrefix("#") }
        }
        registry.gauge(metric).set(5, "own")
        put("one", ["a": 1, "b": 2])
        put("two", ["c": 3])
        #expect(lines() == ["g{l=\"a\"} 1", "g{l=\"b\"} 2", "g{l=\"c\"} 3", "g{l=\"own\"} 5"])
        put("one", ["b": 4])
        #expect(lines() == ["g{l=\"b\"} 4", "g{l=\"c\"} 3", "g{l=\"own\"} 5"])
        put("two", ["e": 1, "f": 2, "g": 3, "h": 4])
        #expect(lines().contains("g{l=\"g\"} 3") && !lines().contains("g{l=\"h\"} 4"))
        #expect(lines().contains("reeve_metric_series_dropped_total 1"))
    }

    @Test func `numbers that are none are written as Prometheus reads them`() {
        let registry = MetricRegistry()
        let gauge = registry.gauge(MetricDescription("g", .gauge, "G.", labels: ["l"]))
        for (label, value) in [("a", Double.nan), ("b", .infinity), ("c", -.infinity), ("d", 1e20), ("e", 0.25)] {
            gauge.set(value, label)
        }
        let text = ExpositionFormat.text.render(registry.snapshot())
        for line in ["g{l=\"a\"} NaN", "g{l=\"b\"} +Inf", "g{l=\"c\"} -Inf", "g{l=\"d\"} 1e+20", "g{l=\"e\"} 0.25"] {
            #expect(text.contains(line))
        }
    }

    @Test func `a log line is one line, in text and in JSON`() throws {
        let (reading, writing) = try pipe()
        var log = Logger(level: .info, sink: StreamSink(descriptor: writing, format: .json))
        log = log.tagged("task", "a \"b\"")
        log.debug("not written")
        log.warning("two\nlines", [LogField("n", 5)])
        log.tagged("task", "b").info("one", [LogField("task", "c")])
        let text = Logger(sink: StreamSink(descriptor: writing, format: .text))
        text.info("two\nlines", [LogField("key", "with space"), LogField("plain", "x")])
        close(writing)
        let lines = String(decoding: FileHandle(fileDescriptor: reading).readDataToEndOfFile(), as: UTF8.self).split(
            separator: "\n")
        #expect(lines.count == 3)
        let object = try #require(try JSONSerialization.jsonObject(with: Data(lines[0].utf8)) as? [String: String])
        #expect(object["message"] == "two\nlines")
        #expect(object["level"] == "warning")
        #expect(object["task"] == "a \"b\"")
        #expect(object["n"] == "5")
        #expect(lines[1].hasSuffix(#""message":"one","task":"c"}"#) && !lines[1].contains(#""b""#))
        #expect(lines[2].hasSuffix("two ⏎ lines key=\"with space\" plain=x"))
    }

    @Test(.timeLimit(.minutes(1)))
    func `a log that nobody reads holds nobody up, and says how much of it is missing`() async throws {
        let (reading, writing) = try pipe()
        let sink = QueuedSink(StreamSink(descriptor: writing, format: .text), limit: 500_000)
        let log = Logger(sink: sink)
        for number in 0..<5000 { log.info("line", [LogField("number", number)]) }
        #expect(!sink.finish(within: .milliseconds(50)))
        let reader = Task.detached { FileHandle(fileDescriptor: reading).readDataToEndOfFile() }
        #expect(sink.finish(within: .seconds(30)))
        close(writing)
        let lines = String(decoding: await reader.value, as: UTF8.self).split(separator: "\n")
        func values(_ key: String) -> [Int] {
            lines.filter { $0.contains(" \(key)=") }.compactMap { $0.split(separator: "=").last.flatMap { Int($0) } }
        }
        let (written, dropped) = (values("number"), values("count"))
        #expect(written.count > 100 && zip(written, written.dropFirst()).allSatisfy { $0 < $1 })
        #expect(!dropped.isEmpty && dropped.reduce(written.count, +) == 5000)
        #expect(lines.count == written.count + dropped.count)
    }

    @Test func `an orderly end writes what is queued`() throws {
        let (reading, writing) = try pipe()
        let sink = QueuedSink(StreamSink(descriptor: writing, format: .text))
        for number in 0..<100 { Logger(sink: sink).info("line \(number)") }
        #expect(sink.finish(within: .seconds(30)))
        close(writing)
        let lines = String(decoding: FileHandle(fileDescriptor: reading).readDataToEndOfFile(), as: UTF8.self)
            .split(separator: "\n")
        #expect(lines.count == 100 && lines.last?.hasSuffix("line 99") == true)
    }

    private func pipe() throws -> (Int32, Int32) {
        var ends: [Int32] = [-1, -1]
        try #require(Foundation.pipe(&ends) == 0)
        return (ends[0], ends[1])
    }

    @Test func `a line goes whole to a stream that takes only a part of it at once`() throws {
        let (reading, writing) = try pipe()
        _ = fcntl(writing, F_SETFL, fcntl(writing, F_GETFL) | O_NONBLOCK)
        // Full from the first byte on.
        var chunk = [UInt8](repeating: UInt8(ascii: "-"), count: 4096)
        while write(writing, &chunk, chunk.count) > 0 {}
        let line = String(repeating: "x", count: 300_000)
        let writer = Mutex("")
        let thread = Thread {
            let own = try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/thread-self")
            writer.withLock { $0 = own ?? "none" }
            Logger(level: .info, sink: StreamSink(descriptor: writing, format: .json)).info(line)
            close(writing)
        }
        thread.start()
        // It waits, or has given up.
        var state: Character? = "R"
        while state == "R" {
            usleep(1000)
            let path = writer.withLock { $0 }
            if path.isEmpty { continue }
            let stat = try? String(contentsOfFile: "/proc/\(path)/stat", encoding: .utf8)
            state = stat?.split(separator: ")").last?.dropFirst().first
        }
        let read = try FileHandle(fileDescriptor: reading, closeOnDealloc: true).readToEnd() ?? Data()
        #expect(read.count > line.utf8.count && read.suffix(2) == Data("}\n".utf8))
    }
}
