import Foundation
import Kernel
import Telemetry

/// The collectors of one database. Each runs at its own interval. A collector that fails or hangs does not affect the
/// others, and its next reading does not begin before the last one has ended.
struct CollectorRun: Sendable {
    let collectors: [Collector]
    let open: OpenDatabase
    let metrics: ServiceMetrics
    let logger: Logger

    /// Runs all collectors until cancelled.
    func run() async {
        await withTaskGroup(of: Void.self) { group in
            for collector in collectors { group.addTask { await self.run(collector) } }
        }
    }

    private func run(_ collector: Collector) async {
        var wasUp = true
        while !Task.isCancelled {
            do {
                metrics.replace(collector, database: open.name, with: try await read(collector))
                wasUp = true
            } catch {
                if Task.isCancelled { return }
                metrics.setFailed(collector, database: open.name)
                let fields = [LogField("collector", collector.name), LogField("error", error)]
                if wasUp { logger.warning("the metrics of a collector could not be read", fields) }
                wasUp = false
            }
            guard (try? await Task.sleep(for: collector.interval)) != nil else { return }
        }
    }

    /// Reads once. The reading is cancelled at the collector's time limit.
    private func read(_ collector: Collector) async throws -> MetricSample {
        let work = Task { [open] in
            var sample = MetricSample()
            try await collector.collect(open, &sample)
            return sample
        }
        let timer = Task { [metrics, open] in
            try await Task.sleep(for: collector.limit)
            work.cancel()
            metrics.setFailed(collector, database: open.name)
        }
        defer { timer.cancel() }
        return try await withTaskCancellationHandler {
            try await work.value
        } onCancel: {
            work.cancel()
        }
    }
}
