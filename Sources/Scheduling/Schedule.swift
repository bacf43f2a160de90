import Foundation
import Postgres

/// The times at which a task is due.
///
/// When the clocks change, a cron expression behaves as in Debian's cron (cron(8), "Daylight Saving Time and other time
/// changes"). A fixed time is due once on such a day. If the clocks are set back and show the time twice, it is due the
/// first time. If the clocks are set forward over the time and never show it, it is due at the moment of the change. An
/// expression whose minute or hour begins with `*` is due whenever the clocks show a matching time.
public enum Schedule: Sendable, Equatable {
    case cron(CronExpression, TimeZone)
    /// An interval of this many seconds, counted from 1970-01-01T00:00:00Z, so that all processes agree. A value below
    /// 1 or above the end of `instants` is never due.
    case every(seconds: Int)

    /// The instants that a schedule supports: from the year 1 to the year 9999, as in RFC 3339.
    public static let instants = -62_135_596_800...253_402_300_799

    /// Returns the first time at which the task is due after an instant. nil if the instant is not in `instants`, or if
    /// a cron expression is not due within 41 years.
    ///
    /// Instants are whole seconds since 1970-01-01T00:00:00Z.
    public func next(after instant: Int) -> Int? {
        guard Self.instants.contains(instant) else { return nil }
        switch self {
        case .every(let seconds):
            guard (1...Self.instants.upperBound).contains(seconds) else { return nil }
            return (instant.flooredDivision(by: seconds).quotient + 1) * seconds
        case .cron(let expression, let zone):
            return CronWalk(expression: expression, zone: zone).next(after: instant)
        }
    }

    /// Returns up to `count` due times from an instant on, including the instant.
    public func times(from instant: Int, count: Int) -> [Int] {
        guard Self.instants.contains(instant) else { return [] }
        var times: [Int] = []
        var last = max(instant - 1, Self.instants.lowerBound)
        while times.count < count, let next = next(after: last) {
            times.append(next)
            last = next
        }
        return times
    }
}

private struct CronWalk {
    let expression: CronExpression
    let zone: TimeZone

    func next(after instant: Int) -> Int? {
        let minutes = expression.minutesOfDay
        // `today` is the local date at the instant. The search starts one day earlier, because the clocks may be set
        // back over midnight, to a time on the previous date.
        let today = (instant + zone.offset(at: instant)).flooredDivision(by: CivilDate.seconds).quotient
        for number in (today - 1)...(today + 41 * 366) {
            guard expression.matches(CivilDate(number: Int64(number))) else { continue }
            if let first = first(of: minutes, on: number * CivilDate.seconds, after: instant) { return first }
        }
        return nil
    }

    private func first(of minutes: [Int], on midnight: Int, after instant: Int) -> Int? {
        let offset = zone.offset(at: midnight - 2 * CivilDate.seconds)
        let isSteady =
            offset == zone.offset(at: midnight + 3 * CivilDate.seconds)
            && offset == zone.offset(at: midnight + CivilDate.seconds / 2)
        if isSteady { return minutes.lazy.map { midnight + $0 * 60 - offset }.first { $0 > instant } }
        return minutes.flatMap { instants(at: midnight + $0 * 60) }.filter { $0 > instant }.min()
    }

    private func instants(at local: Int) -> [Int] {
        let shown = zone.instants(showing: local)
        guard expression.isFixedTime else { return shown }
        return shown.first.map { [$0] } ?? [zone.jump(over: local)]
    }
}
