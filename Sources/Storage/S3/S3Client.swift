import Foundation
import HTTPClient
import Hashing
import Processes
import Synchronization

/// Sends signed requests to S3-compatible storage, and retries requests that failed with a transient error.
final class S3Client: Sendable {
    let location: S3Location
    private let credentials: S3Credentials
    private let http: HTTPClient
    private let retries: RetryPolicy
    private let clock: Clock
    private let flag: StopFlag

    /// How many seconds the server's clock is ahead of this machine's clock. Signatures contain the server's time.
    private final class Clock: Sendable {
        let offset = Mutex<TimeInterval>(0)
    }

    convenience init(
        _ location: S3Location, _ credentials: S3Credentials, limits: HTTPClient.Limits, retries: RetryPolicy
    ) {
        self.init(location, credentials, HTTPClient(limits: limits), retries, Clock(), StopFlag())
    }

    private init(
        _ location: S3Location, _ credentials: S3Credentials, _ http: HTTPClient, _ retries: RetryPolicy,
        _ clock: Clock, _ flag: StopFlag
    ) {
        self.location = location
        self.credentials = credentials
        self.http = http
        self.retries = retries
        self.clock = clock
        self.flag = flag
    }

    /// Returns a client that is equal to this one, except that its requests are aborted when the flag is raised.
    func stopping(by flag: StopFlag) -> S3Client {
        S3Client(location, credentials, http, retries, clock, flag)
    }

    struct Call {
        var method: String
        /// The name of the object; nil for a request about the bucket.
        var name: String?
        var query: [(String, String)] = []
        var headers: [(String, String)] = []
        var body: [UInt8] = []
        /// The operation in messages.
        var operation: String
        /// Whether status 416 (Range Not Satisfiable) counts as a success. It is the answer if a range of an empty
        /// object is requested.
        var mayBeEmpty = false
        /// Returns the fault of a response whose status is a success, for instance that the body is incomplete; nil if
        /// it has no fault.
        var validate: @Sendable (HTTPResponse) -> String? = { _ in nil }

        /// The `validate` of requests whose responses must be XML.
        static let validateXML: @Sendable (HTTPResponse) -> String? = {
            S3Answer.parse($0.body) == nil ? "the response is incomplete" : nil
        }
    }

    /// Sends a request, and repeats it after a transient error.
    ///
    /// - Throws: `StorageError.missing` if the object or upload does not exist; `.failed`.
    func send(_ call: Call) throws -> HTTPResponse {
        var attempt = 1
        while true {
            let problem: Problem
            do {
                let flag = flag
                let response = try http.send(request(call), isStopped: { flag.isRaised })
                guard let found = judge(response, call) else { return response }
                problem = found
            } catch HTTPError.broken(_, let reason) {
                problem = Problem(reason: reason, mayPass: true)
            } catch {
                throw failed(call, "\(error)")
            }
            if problem.isMissing { throw StorageError.missing("\(location.place)/\(call.name ?? "")") }
            guard problem.mayPass,
                let delay = retries.delay(after: attempt, random: .random(in: 0...1), asked: problem.wait)
            else { throw failed(call, problem.reason + (attempt > 1 ? " (tried \(attempt) times)" : "")) }
            attempt += 1
            if flag.sleep(for: delay) { throw failed(call, problem.reason + "; the request was cancelled") }
        }
    }

    private func failed(_ call: Call, _ reason: String) -> StorageError {
        .failed(
            operation: call.operation, object: call.name.map { "\(location.place)/\($0)" } ?? location.place,
            reason: reason)
    }

    private func request(_ call: Call) -> HTTPRequest {
        let (origin, start) = location.base
        let key = call.name.map { "/" + Signature.encoded(location.key($0), keeping: true) } ?? ""
        let path = start + (key.isEmpty && start.isEmpty ? "/" : key)
        let host = origin.components(separatedBy: "://").last ?? origin
        let query = Signature.query(call.query)
        let signed = Signature(credentials: credentials, region: location.region).headers(
            method: call.method, path: path, query: call.query,
            headers: [("host", host)] + call.headers, payload: Digest.hex(Digest.of(call.body)),
            at: Date().addingTimeInterval(clock.offset.withLock { $0 }))
        return HTTPRequest(
            call.method, origin + path + (query.isEmpty ? "" : "?\(query)"), headers: signed, body: call.body)
    }

    // MARK: Judgement

    private struct Problem {
        var reason: String
        var mayPass: Bool
        var isMissing = false
        var wait: Duration?
    }

    /// Decides whether a request succeeded, and otherwise whether it may be repeated.
    ///
    /// - Returns: the error in a response; nil if the request succeeded.
    private func judge(_ response: HTTPResponse, _ call: Call) -> Problem? {
        let failure = S3Answer.failure(in: response.body)
        if response.status == 416, call.mayBeEmpty { return nil }
        if (200..<300).contains(response.status) {
            // The status is a success. If the body contains an error, the error occurred after the server had sent the
            // status.
            if let failure { return Problem(reason: "\(failure.code): \(failure.message)", mayPass: true) }
            return call.validate(response).map { Problem(reason: $0, mayPass: true) }
        }
        let code = failure?.code ?? ""
        if ["RequestTimeTooSkewed", "RequestExpired"].contains(code), setClock(by: response) {
            return Problem(reason: "\(code): this machine's clock is wrong", mayPass: true, wait: .zero)
        }
        let text = failure.map { "\($0.code): \($0.message)" } ?? "status \(response.status)"
        let isMissing = response.status == 404 && code != "NoSuchBucket"
        let passing = ["SlowDown", "RequestTimeout", "InternalError", "ServiceUnavailable", "OperationAborted"]
        let mayPass =
            response.status >= 500 && response.status != 501 || response.status == 429 || passing.contains(code)
        return Problem(
            reason: text, mayPass: mayPass, isMissing: isMissing,
            wait: response["Retry-After"].flatMap { Int($0) }.map { .seconds(min(max($0, 0), 86400)) })
    }

    /// Sets the clock offset from the `Date` header of a response, because the server checks the time in signatures
    /// against its own clock.
    ///
    /// - Returns: whether the offset changed by more than 5 seconds.
    private func setClock(by response: HTTPResponse) -> Bool {
        let formatter = DateFormatter()
        formatter.locale = Locale(identifier: "en_US_POSIX")
        formatter.timeZone = .gmt
        formatter.dateFormat = "EEE, dd MMM yyyy HH:mm:ss zzz"
        guard let time = response["Date"].flatMap(formatter.date) else { return false }
        let difference = time.timeIntervalSinceNow
        return clock.offset.withLock { offset in
            defer { offset = difference }
            return abs(offset - difference) > 5
        }
    }
}
