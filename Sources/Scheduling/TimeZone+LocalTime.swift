import Foundation
import Postgres

extension TimeZone {
    /// The offset from UTC at an instant, in seconds.
    func offset(at instant: Int) -> Int {
        secondsFromGMT(for: Date(timeIntervalSince1970: Double(instant)))
    }

    /// The instants at which the clocks of the zone show a local time, given in seconds as if it were UTC: one, two
    /// where the clocks were put back, none where they were put forward.
    func instants(showing local: Int) -> [Int] {
        let offsets = Set([
            offset(at: local - CivilDate.seconds), offset(at: local), offset(at: local + CivilDate.seconds),
        ])
        return Set(offsets.map { local - $0 }).filter { $0 + offset(at: $0) == local }.sorted()
    }

    /// The instant at which the clocks jump over a local time that they never show.
    func jump(over local: Int) -> Int {
        var before = local - CivilDate.seconds - offset(at: local - CivilDate.seconds)
        var after = local + CivilDate.seconds - offset(at: local + CivilDate.seconds)
        // Before the jump the clocks are behind `local`, from it on beyond.
        while after - before > 1 {
            let middle = before + (after - before) / 2
            if middle + offset(at: middle) < local { before = middle } else { after = middle }
        }
        return after
    }
}
