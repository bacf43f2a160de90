import AdminHTTP
import Foundation
import Kernel
import Postgres
import Processes
import Reporting
import Synchronization
import Telemetry

/// `reeve serve`: serves all configured databases and HTTP, and stops in an orderly way.
struct Service: Sendable {
    let features: FeatureList
    let configuration: Configuration
    let logger: Logger

    /// Runs until cancelled, or until a database has a permanent error.
    ///
    /// - Throws: `CancellationError` after an orderly stop; otherwise the permanent error.
    func run() async throws {
        for name in configuration.store.unknownVariables.keys.sorted() {
            logger.warning(
                "an environment variable is ignored, because no setting has this name", [LogField("name", name)])
        }
        // A mistake in a task is reported before anything is started.
        _ = try features.plans(configuration, isEmbedded: false)
        let metrics = ServiceMetrics()
        let readiness = Readiness()
        readiness.set("service", false, "is starting")
        let server = try await startServer(metrics, readiness)
        let served = SharedServices()
        let progress = ServiceProgress()
        let report = ServiceManager().map { manager in
            ServiceReport(
                to: manager, progress: progress, drain: configuration[CoreSettings.drain], logger: logger
            ) { Self.summary(readiness, served) }
        }
        var ending: any Error = CancellationError()
        do {
            try await withTaskCancellationHandler {
                try await serve(metrics, readiness, served, progress, report)
            } onCancel: {
                report?.enter(.stopping)
                readiness.set("service", false, "is stopping")
                stopRunning(served) { logger.info("stopping; waiting for running work to finish") }
            }
        } catch {
            ending = error
        }
        try? await onOwnThread(named: "http stop") { server?.stop() }
        report?.enter(.ended)
        throw ending
    }

    /// The state of the service in one line.
    private static func summary(_ readiness: Readiness, _ served: SharedServices) -> String {
        let failing = readiness.all.filter { !$0.isGood }.map { "\($0.name) \($0.message)" }
        let runs = served.all.reduce(0) { $0 + $1.runningCount }
        let state = failing.isEmpty ? "ready" : failing.joined(separator: "; ")
        return "\(counted(served.all.count, "database")), \(counted(runs, "run")) in progress: \(state)"
    }

    private func serve(
        _ metrics: ServiceMetrics, _ readiness: Readiness, _ served: SharedServices, _ progress: ServiceProgress,
        _ report: ServiceReport?
    ) async throws {
        let estate = Estate(configuration: configuration, features: features, logger: logger)
        var services: [DatabaseService] = []
        for one in configuration.databases {
            let open = try await estate.open(one)
            services.append(
                try DatabaseService(
                    open, features: features, configuration: configuration, metrics: metrics, readiness: readiness,
                    progress: progress, logger: logger))
        }
        served.set(services)
        readiness.set("service", true, "is running")
        report?.enter(.running)
        logger.info(
            "ready to serve", [LogField("databases", services.count), LogField("version", ProgramVersion.current)])
        let ending: any Error
        do {
            try await work(services, readiness, served, report)
            ending = CancellationError()
        } catch {
            ending = error
        }
        for service in services { await service.close() }
        logger.info("stopped")
        throw ending
    }

    /// Serves all databases concurrently. The first permanent error stops all of them in an orderly way, so that a
    /// supervisor notices that the service cannot do its work.
    private func work(
        _ services: [DatabaseService], _ readiness: Readiness, _ served: SharedServices, _ report: ServiceReport?
    ) async throws {
        let (failures, failing) = AsyncStream.makeStream(of: (any Error).self)
        try await withThrowingTaskGroup(of: Void.self) { group in
            for service in services {
                group.addTask { try await service.run { failing.yield($0) } }
            }
            // A service that fails still waits for its running work. Its error is therefore passed through `failures`
            // immediately, so that the error is logged and the other services stop.
            group.addTask { for await error in failures { throw error } }
            do {
                for try await _ in group {}
            } catch {
                if !(error is CancellationError) {
                    report?.enter(.stopping)
                    readiness.set("service", false, "has failed, and is stopping")
                    stopRunning(served) {
                        logger.error("the service failed and is stopping", [LogField("error", error)])
                    }
                }
                throw error
            }
        }
    }

    /// Cancels the work that still runs when the time limit of an orderly stop expires. This is done on a separate
    /// thread, so that the work is cancelled even if all threads of the cooperative pool are blocked.
    private func stopRunning(_ served: SharedServices, _ tell: @escaping @Sendable () -> Void) {
        let limit = configuration[CoreSettings.drain]
        let thread = Thread {
            tell()
            Thread.sleep(forTimeInterval: limit.inSeconds)
            logger.warning("cancelling work that did not end in time")
            for service in served.all { service.stopRunning() }
        }
        thread.name = "drain"
        thread.start()
    }

    /// The served databases, for the code that cancels their work.
    private final class SharedServices: Sendable {
        private let services = Mutex<[DatabaseService]>([])

        var all: [DatabaseService] { services.withLock { $0 } }

        func set(_ services: [DatabaseService]) { self.services.withLock { $0 = services } }
    }

    /// The time limit for resolving and opening the listen address. A limit is needed, because a resolver or a file
    /// system may hang.
    private static let listenLimit: Duration = .seconds(20)

    private func startServer(_ metrics: ServiceMetrics, _ readiness: Readiness) async throws -> AdminServer? {
        guard let address = configuration[HTTPSettings.listen].address else { return nil }
        var settings = AdminServer.Settings()
        settings.allowsRemote = configuration[HTTPSettings.remote]
        settings.hosts = configuration[HTTPSettings.hosts]
        let server: AdminServer
        do {
            server = try await BoundedThreads.named("http.listen").call(limit: Self.listenLimit) { [settings, logger] in
                try AdminServer(address, routes: Self.routes(metrics, readiness), settings: settings, logger: logger)
            }
        } catch is BoundedThreads.GivenUp {
            throw ServerError(address, "the host name was not resolved within \(Self.listenLimit.components.seconds) s")
        }
        logger.info("serving /metrics, /livez and /readyz", [LogField("address", server.address)])
        return server
    }

    /// The open routes. Any client that can connect may use them, so their answers contain no host or user name. The
    /// handlers run on the server's own thread, so these routes work even if the cooperative pool is exhausted.
    static func routes(_ metrics: ServiceMetrics, _ readiness: Readiness) -> [Route] {
        [
            .immediate("GET", "/livez", access: .open) { _ in
                AdminResponse(contentType: "text/plain; charset=utf-8", body: "ok\n")
            },
            .immediate("GET", "/readyz", access: .open) { readiness.answer(verbose: $0.head.query["verbose"] != nil) },
            .immediate("GET", "/metrics", access: .open) { request in
                metrics.scrapes.increment()
                let accepts = request.head.headers["accept"] ?? ""
                let format: ExpositionFormat = accepts.contains("application/openmetrics-text") ? .openMetrics : .text
                return AdminResponse(contentType: format.contentType, body: format.render(metrics.registry.snapshot()))
            },
        ]
    }
}
