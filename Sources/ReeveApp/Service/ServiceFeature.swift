import AdminHTTP
import Foundation
import Kernel
import Processes
import Telemetry

extension Feature {
    /// The service: the schedule and the HTTP server.
    static let service = Feature(
        "service", commands: [ServeCommand.spec], settings: HTTPSettings.keys, metrics: ServiceMetrics.families,
        errors: [ServerError.self])
}

/// The settings of the HTTP server: its address, and the clients and host names that it accepts.
enum HTTPSettings {
    static let listen = Setting(
        "http.listen", .listen, default: "127.0.0.1:7433",
        "Where /metrics, /livez and /readyz are served: host:port, [host]:port, unix:/path, or off. Other than loopback "
            + "and sockets requires http.remote.")
    static let remote = Setting(
        "http.remote", .boolean, default: "no",
        "Whether http.listen may be an address that other machines reach. Nobody is asked who they are there, and "
            + "nothing but those three is answered.")
    static let hosts = Setting<[String]>(
        list: "http.hosts", .text,
        "Names under which the server may be asked, beside localhost, IP addresses and that of http.listen; others are "
            + "refused, so that no page in a browser reaches it by a name of its own (DNS rebinding).")

    static let keys = [listen.key, remote.key, hosts.key]

    /// The address to listen on; nil if the server is off.
    struct Listening: Sendable { let address: ListenAddress? }
}

extension ValueSyntax where Value == HTTPSettings.Listening {
    static var listen: Self {
        Self { (text) throws(InvalidValue) in
            if text == "off" { return HTTPSettings.Listening(address: nil) }
            guard let address = ListenAddress(text) else {
                throw InvalidValue(
                    "'\(text)' is not an address", hint: "write 127.0.0.1:7433, [::1]:7433, unix:/path or off")
            }
            return HTTPSettings.Listening(address: address)
        }
    }
}

/// The command `reeve serve`.
enum ServeCommand {
    static let spec = CommandSpec(
        noun: "serve", verb: nil, summary: "run the schedule, and serve metrics, until stopped",
        discussion: "Works on every configured database; without one, on a PostgreSQL of its own under the state "
            + "folder. SIGTERM, SIGINT or SIGHUP lets work that runs end, within the setting 'drain'; a second one stops at "
            + "once. A database whose ledger it cannot work with ends it, with that error's status.",
        isService: true
    ) { invocation in
        let configuration = try invocation.configuration()
        // A queue, so that the work never waits for the reader of the log.
        let log = QueuedSink(
            configuration.logSink(isTerminal: isatty(STDERR_FILENO) == 1, colour: invocation.console.usesColour))
        let logger = configuration.logger(verbose: invocation.has("verbose"), to: log)
        let ending: any Error
        do {
            try await Service(features: invocation.features, configuration: configuration, logger: logger).run()
            ending = CancellationError()
        } catch {
            ending = error
        }
        try? await onOwnThread(named: "end of the log") { _ = log.finish(within: lastWords) }
        throw ending
    }

    /// How long an orderly stop waits for the reader of the log.
    private static let lastWords: Duration = .seconds(2)
}
