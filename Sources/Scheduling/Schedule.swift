import Foundation

/// When a task is due.
///
/// At the clock changes a cron expression does as Debian's cron does (cron(8), "Daylight Saving Time and other time
/// changes"): a fixed time comes once, at its first showing where the clocks are put back and at the jump where they
/// are put forward over it; one with a wildcard in minute or hour follows the clocks.
public enum Schedule: Sendable, Equatable {
    case cron(CronExpression, TimeZone)
    /// Every so many seconds, counted from 1970-01-01T00:00:00Z, so that all processes agree.
    case every(seconds: Int)

    /// The first time at which the task is due after an instant; nil when there is none within 41 years.
    ///
    /// Instants are whole seconds since 1970-01-01T00:00:00Z.
    public func next(after instant: Int) -> Int? {
        switch self {
        case .every(let seconds):
            let (quotient, remainder) = instant.quotientAndRemainder(dividingBy: seconds)
            return (remainder < 0 ? quotient : quotient + 1) * seconds
        case .cron(let expression, let zone):
            return CronWalk(expression: expression, zone: zone).next(after: instant)
        }
    }

    /// The times from an instant on, that one included.
    public func times(from instant: Int, count: Int) -> [Int] {
        var times: [Int] = []
        var last = instant - 1
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
        // A local time can be an hour or more off; the day before covers it.
        let today = floorDivide(instant + zone.offset(at: instant), 86400)
        for number in (today - 1)...(today + 41 * 366) {
            let day = LocalDay(number: number)
            guard expression.matches(day) else { continue }
            if let first = first(of: minutes, on: number * 86400, after: instant) { return first }
        }
        return nil
    }

    private func first(of minutes: [Int], on midnight: Int, after instant: Int) -> Int? {
        let offset = zone.offset(at: midnight - 2 * 86400)
        let isSteady = offset == zone.offset(at: midnight + 3 * 86400) && offset == zone.offset(at: midnight + 43200)
        if isSteady { return minutes.lazy.map { midnight + $0 * 60 - offset }.first { $0 > instant } }
        return minutes.flatMap { instants(at: midnight + $0 * 60) }.filter { $0 > instant }.min()
    }

    private func instants(at local: Int) -> [Int] {
        let shown = zone.instants(showing: local)
        guard expression.isFixedTime else { return shown }
        return shown.first.map { [$0] } ?? [zone.jump(over: local)]
    }
}

private func floorDivide(_ value: Int, _ divisor: Int) -> Int {
    let quotient = value / divisor
    return value % divisor < 0 ? quotient - 1 : quotient
}
