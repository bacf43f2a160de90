import Foundation
import Processes
import Synchronization
import Telemetry

/// Tells the service manager how the service is, from a thread of its own.
///
/// The watchdog is fed only as long as the loops of the service make turns. While the service starts and stops, the
/// manager is asked for more time.
final class ServiceReport: Sendable {
    enum Phase: Sendable, Equatable { case starting, running, stopping, ended }

    /// A loop that makes no turn for this long hangs. The longest wait of a loop is a pause of 15 s after an answer
    /// that took 10 s.
    static let silence: Duration = .seconds(120)
    /// How much time is asked for at once.
    private static let extra: Duration = .seconds(30)

    private let manager: ServiceManager
    private let progress: ServiceProgress
    private let summary: @Sendable () -> String
    private let logger: Logger
    /// How long more time is asked for while the service starts or stops. After that, its limits have failed.
    private let limits: [Phase: Duration]
    private let phase = Mutex(Phase.starting)
    private let wake = DispatchSemaphore(value: 0)

    /// - Parameters:
    ///   - drain: how long running work may take to end after a stop was requested.
    ///   - summary: returns one line about the state, such as what is not ready.
    init(
        to manager: ServiceManager, progress: ServiceProgress, drain: Duration, logger: Logger,
        summary: @escaping @Sendable () -> String
    ) {
        self.manager = manager
        limits = [.starting: .seconds(3600), .stopping: drain + .seconds(60)]
        self.progress = progress
        self.logger = logger
        self.summary = summary
        manager.tell(.extend(Self.extra))
        let thread = Thread { self.run() }
        thread.name = "service manager"
        thread.start()
    }

    func enter(_ next: Phase) {
        let isNew = phase.withLock { phase in
            // A stop during the start is not undone by the end of the start.
            if phase == .ended || phase == .stopping && next == .running { return false }
            phase = next
            return true
        }
        if isNew { wake.signal() }
    }

    private func run() {
        // As sd_watchdog_enabled(3) recommends, twice as often as necessary, and often enough for the status.
        let pause = min(manager.watchdog.map { $0 / 2 } ?? .seconds(10), .seconds(10))
        var told = Phase.starting
        var since = ContinuousClock.now
        var isStalled = false
        while true {
            let phase = phase.withLock { $0 }
            if phase == .ended { return }
            if phase != told {
                if phase == .running { manager.tell(.ready) }
                if phase == .stopping { manager.tell(.stopping) }
                told = phase
                since = .now
            }
            manager.tell(.status(summary()))
            if let limit = limits[phase], ContinuousClock.now - since < limit { manager.tell(.extend(Self.extra)) }
            // While the service stops, its loops end one by one.
            let stalled = phase == .running ? progress.stalled(for: Self.silence) : []
            if stalled.isEmpty {
                manager.tell(.alive)
            } else if !isStalled {
                logger.error(
                    "loops of the service hang; the watchdog of the service manager is not fed",
                    [LogField("loops", stalled.joined(separator: ", "))])
            }
            isStalled = !stalled.isEmpty
            _ = wake.wait(timeout: .now() + pause.inSeconds)
        }
    }
}
