import Backups
import Foundation
import Kernel
import Processes
import Reporting

/// How long the steps of a backup took. Steps overlap, so their sum is more than the whole.
final class StepTimings: Sendable {
    private let steps = Gathered<(name: String, seconds: Double)>()
    private let began = ContinuousClock.now

    func add(_ step: String, _ duration: Duration) { steps.add([(step, duration / .seconds(1))]) }

    private var sorted: [(name: String, seconds: Double)] { steps.all.sorted { $0.seconds > $1.seconds } }

    var json: JSONValue {
        .array(sorted.map { ["step": .string($0.name), "seconds": .double($0.seconds)] })
    }

    /// The steps, the longest first, and the time for each table.
    func text(tables: Int) -> String {
        let whole = (ContinuousClock.now - began) / .seconds(1)
        var table = TextTable("STEP", "SECONDS")
        for one in sorted { table.add(one.name, String(format: "%.2f", one.seconds)) }
        let each = tables == 0 ? "" : String(format: ", %.2f ms for each table", whole * 1000 / Double(tables))
        return table.text + String(format: "\n%.2f s in all", whole) + each
    }
}
