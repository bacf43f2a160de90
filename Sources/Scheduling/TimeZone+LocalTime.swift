import Foundation
import Postgres

extension TimeZone {
    /// Returns the offset from UTC at an instant, in seconds.
    func offset(at instant: Int) -> Int {
        secondsFromGMT(for: Date(timeIntervalSince1970: Double(instant)))
    }

    /// Returns the instants at which the clocks of the zone show a local time: usually one instant, two if the clocks
    /// were set back and show the local time twice, none if the clocks were set forward over the local time. `local` is
    /// the local time in seconds since 1970, computed as if the local time were UTC.
    func instants(showing local: Int) -> [Int] {
        let offsets = Set([
            offset(at: local - CivilDate.seconds), offset(at: local), offset(at: local + CivilDate.seconds),
        ])
        return Set(offsets.map { local - $0 }).filter { $0 + offset(at: $0) == local }.sorted()
    }

    /// Returns the instant at which the clocks are set forward over a local time that they never show.
    func jump(over local: Int) -> Int {
        var before = local - CivilDate.seconds - offset(at: local - CivilDate.seconds)
        var after = local + CivilDate.seconds - offset(at: local + CivilDate.seconds)
        // Before the change the clocks show a time before `local`; after the change, a time after `local`.
        while after - before > 1 {
            let middle = before + (after - before) / 2
            if middle + offset(at: middle) < local { before = middle } else { after = middle }
        }
        return after
    }
}
