// A test double of the CUDA driver: main memory stands in for a device's, and a launch calls back into the tests, which run the
// kernel's reference. It is strict where a driver is: order of calls, current context, handles, and the layout of arguments, which it
// takes from the PTX that it was given. It assembles nothing and runs nothing by itself.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <regex>
#include <set>
#include <string>
#include <vector>

typedef int CUresult;
typedef int CUdevice;
typedef unsigned long long CUdeviceptr;

enum {
    SUCCESS = 0,
    INVALID_VALUE = 1,
    NOT_INITIALIZED = 3,
    NO_DEVICE = 100,
    INVALID_DEVICE = 101,
    INVALID_CONTEXT = 201,
    NO_BINARY_FOR_GPU = 209,
    INVALID_PTX = 218,
    INVALID_HANDLE = 400,
    NOT_FOUND = 500,
    ILLEGAL_ADDRESS = 700,
};

struct Device { int major, minor, retained; };
struct Parameter { size_t offset, size; };
struct Function { struct Module* module; std::string name; std::vector<Parameter> parameters; size_t size; };
struct Module { struct Context* context; Function function; };
struct Context { CUdevice device; };
struct Copy { unsigned char* host; std::vector<unsigned char> bytes; bool to_host; };

typedef int (*Launched)(int device, const char* name, int groups, int group_size, const void* arguments, long long bytes);

static std::recursive_mutex gate;
static bool started;
static std::vector<Device> devices;
static std::vector<Context*> contexts;
static std::set<Module*> modules;
static std::map<unsigned char*, size_t> locked;
static std::vector<Copy> under_way;
static std::map<std::string, std::pair<int, CUresult>> failures;
static std::string calls;
static Launched launched;
static thread_local std::vector<Context*> stack;

#define EXPORT extern "C" __attribute__((visibility("default")))

// Every call is recorded, and fails where a test has asked for it, or where the driver was not started.
#define ENTER(name)                                                        \
    std::lock_guard<std::recursive_mutex> lock(gate);                      \
    calls += #name "\n";                                                   \
    if (CUresult failure = injected(#name)) return failure;                \
    if (!started && std::strcmp(#name, "cuInit") != 0) return NOT_INITIALIZED

static CUresult injected(const char* name) {
    auto found = failures.find(name);
    if (found == failures.end() || --found->second.first > 0) return SUCCESS;
    CUresult code = found->second.second;
    failures.erase(found);
    return code;
}

EXPORT void double_reset(int count, int major, int minor, Launched callback) {
    std::lock_guard<std::recursive_mutex> lock(gate);
    started = false;
    devices.assign(count, Device{major, minor, 0});
    for (auto context : contexts) delete context;
    contexts.clear();
    for (int i = 0; i < count; i++) contexts.push_back(new Context{i});
    for (auto module : modules) delete module;
    modules.clear();
    for (auto& block : locked) std::free(block.first);
    locked.clear();
    under_way.clear();
    failures.clear();
    calls.clear();
    stack.clear();
    launched = callback;
}

// Lets the n-th call of a function from now on fail.
EXPORT void double_fail(const char* function, int n, int code) {
    std::lock_guard<std::recursive_mutex> lock(gate);
    failures[function] = {n, code};
}

EXPORT const char* double_calls() { return calls.c_str(); }
EXPORT int double_retained(int device) { return devices[device].retained; }
EXPORT int double_modules() { return (int)modules.size(); }
EXPORT int double_locked() { return (int)locked.size(); }
EXPORT int double_depth() { return (int)stack.size(); }

EXPORT CUresult cuInit(unsigned flags) {
    ENTER(cuInit);
    if (flags != 0) return INVALID_VALUE;
    if (devices.empty()) return NO_DEVICE;
    started = true;
    return SUCCESS;
}

EXPORT CUresult cuDeviceGetCount(int* count) {
    ENTER(cuDeviceGetCount);
    *count = (int)devices.size();
    return SUCCESS;
}

EXPORT CUresult cuDeviceGet(CUdevice* device, int ordinal) {
    ENTER(cuDeviceGet);
    if (ordinal < 0 || ordinal >= (int)devices.size()) return INVALID_DEVICE;
    // Not the ordinal itself, so that mixing them up shows.
    *device = ordinal + 1000;
    return SUCCESS;
}

static bool known(CUdevice device) { return device >= 1000 && device < 1000 + (int)devices.size(); }

EXPORT CUresult cuDeviceGetAttribute(int* value, int attribute, CUdevice device) {
    ENTER(cuDeviceGetAttribute);
    if (!known(device)) return INVALID_DEVICE;
    switch (attribute) {
        case 75: *value = devices[device - 1000].major; return SUCCESS;
        case 76: *value = devices[device - 1000].minor; return SUCCESS;
        case 16: *value = 2; return SUCCESS;
        default: return INVALID_VALUE;
    }
}

EXPORT CUresult cuDevicePrimaryCtxRetain(Context** context, CUdevice device) {
    ENTER(cuDevicePrimaryCtxRetain);
    if (!known(device)) return INVALID_DEVICE;
    devices[device - 1000].retained++;
    *context = contexts[device - 1000];
    return SUCCESS;
}

EXPORT CUresult cuDevicePrimaryCtxRelease_v2(CUdevice device) {
    ENTER(cuDevicePrimaryCtxRelease);
    if (!known(device)) return INVALID_DEVICE;
    if (devices[device - 1000].retained == 0) return INVALID_CONTEXT;
    devices[device - 1000].retained--;
    return SUCCESS;
}

EXPORT CUresult cuCtxPushCurrent_v2(Context* context) {
    ENTER(cuCtxPushCurrent);
    if (std::find(contexts.begin(), contexts.end(), context) == contexts.end()) return INVALID_CONTEXT;
    if (devices[context->device].retained == 0) return INVALID_CONTEXT;
    stack.push_back(context);
    return SUCCESS;
}

EXPORT CUresult cuCtxPopCurrent_v2(Context** context) {
    ENTER(cuCtxPopCurrent);
    if (stack.empty()) return INVALID_CONTEXT;
    *context = stack.back();
    stack.pop_back();
    return SUCCESS;
}

// The parameters' places by the rules of C: each at a multiple of its alignment.
static bool parse(const std::string& ptx, Function& function, int& target) {
    std::smatch found;
    if (!std::regex_search(ptx, found, std::regex("\\.target sm_(\\d+)"))) return false;
    target = std::stoi(found[1]);
    if (!std::regex_search(ptx, found, std::regex("\\.visible \\.entry (\\w+)\\(([^)]*)\\)"))) return false;
    function.name = found[1];
    std::string list = found[2];
    std::regex parameter("\\.param (?:\\.align (\\d+) \\.b8 \\w+\\[(\\d+)\\]|\\.[bf](\\d+) \\w+)");
    size_t at = 0;
    for (std::sregex_iterator i(list.begin(), list.end(), parameter), end; i != end; ++i) {
        size_t size = (*i)[2].matched ? std::stoul((*i)[2]) : std::stoul((*i)[3]) / 8;
        size_t align = (*i)[1].matched ? std::stoul((*i)[1]) : size;
        at = (at + align - 1) / align * align;
        function.parameters.push_back({at, size});
        at += size;
    }
    function.size = at;
    return true;
}

EXPORT CUresult cuModuleLoadDataEx(Module** module, const void* image, unsigned count, int* options, void** values) {
    char* log = nullptr;
    size_t room = 0;
    for (unsigned i = 0; i < count; i++) {
        if (options[i] == 5) log = (char*)values[i];
        else if (options[i] == 6) room = (size_t)values[i];
        else return INVALID_VALUE;
    }
    if (log != nullptr && room > 0) std::strncpy(log, "ptxas fatal : test double", room);
    ENTER(cuModuleLoadDataEx);
    if (stack.empty()) return INVALID_CONTEXT;
    auto loaded = new Module{stack.back(), {}};
    int target;
    if (!parse((const char*)image, loaded->function, target)) { delete loaded; return INVALID_PTX; }
    const Device& device = devices[stack.back()->device];
    if (target > device.major * 10 + device.minor) { delete loaded; return NO_BINARY_FOR_GPU; }
    loaded->function.module = loaded;
    modules.insert(loaded);
    *module = loaded;
    return SUCCESS;
}

EXPORT CUresult cuModuleUnload(Module* module) {
    ENTER(cuModuleUnload);
    if (modules.count(module) == 0) return INVALID_HANDLE;
    if (stack.empty() || stack.back() != module->context) return INVALID_CONTEXT;
    modules.erase(module);
    delete module;
    return SUCCESS;
}

EXPORT CUresult cuModuleGetFunction(Function** function, Module* module, const char* name) {
    ENTER(cuModuleGetFunction);
    if (modules.count(module) == 0) return INVALID_HANDLE;
    if (module->function.name != name) return NOT_FOUND;
    *function = &module->function;
    return SUCCESS;
}

EXPORT CUresult cuLaunchKernel(Function* function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz,
                               unsigned shared, void* stream, void** arguments, void** extra) {
    ENTER(cuLaunchKernel);
    bool live = std::any_of(modules.begin(), modules.end(), [&](Module* m) { return &m->function == function; });
    if (!live) return INVALID_HANDLE;
    if (stack.empty() || stack.back() != function->module->context) return INVALID_CONTEXT;
    if (gx == 0 || gy != 1 || gz != 1 || bx == 0 || bx > 1024 || by != 1 || bz != 1 || shared != 0) return INVALID_VALUE;
    if (stream != nullptr || arguments == nullptr || extra != nullptr) return INVALID_VALUE;
    std::vector<unsigned char> bytes(function->size);
    for (size_t i = 0; i < function->parameters.size(); i++) {
        if (arguments[i] == nullptr) return INVALID_VALUE;
        std::memcpy(bytes.data() + function->parameters[i].offset, arguments[i], function->parameters[i].size);
    }
    calls += "  " + function->name + " on " + std::to_string(function->module->context->device) + "\n";
    return launched(function->module->context->device, function->name.c_str(), (int)gx, (int)bx, bytes.data(), (long long)bytes.size());
}

EXPORT CUresult cuMemHostAlloc(void** address, size_t bytes, unsigned flags) {
    ENTER(cuMemHostAlloc);
    if (stack.empty()) return INVALID_CONTEXT;
    if (bytes == 0 || flags != 0) return INVALID_VALUE;
    *address = std::aligned_alloc(64, (bytes + 63) / 64 * 64);
    std::memset(*address, 0xa5, bytes);
    locked[(unsigned char*)*address] = bytes;
    return SUCCESS;
}

EXPORT CUresult cuMemFreeHost(void* address) {
    ENTER(cuMemFreeHost);
    if (stack.empty()) return INVALID_CONTEXT;
    auto block = locked.find((unsigned char*)address);
    if (block == locked.end()) return INVALID_VALUE;
    // The driver waits for the device before it frees.
    under_way.erase(
        std::remove_if(under_way.begin(), under_way.end(), [&](const Copy& c) { return c.host >= block->first && c.host < block->first + block->second; }),
        under_way.end());
    std::free(address);
    locked.erase(block);
    return SUCCESS;
}

// Page-locked memory is what an asynchronous copy has to be of, if the host is not to wait for it.
static bool is_locked(const void* address, size_t bytes) {
    return std::any_of(locked.begin(), locked.end(), [&](const std::pair<unsigned char* const, size_t>& block) {
        return address >= block.first && (const unsigned char*)address + bytes <= block.first + block.second;
    });
}

// What is copied to main memory comes there when the stream is waited for: whoever reads earlier reads something else.
EXPORT CUresult cuMemcpyDtoHAsync_v2(void* target, CUdeviceptr source, size_t bytes, void* stream) {
    ENTER(cuMemcpyDtoHAsync);
    if (stack.empty()) return INVALID_CONTEXT;
    if (stream != nullptr) return INVALID_HANDLE;
    if (!is_locked(target, bytes)) return INVALID_VALUE;
    auto first = (const unsigned char*)source;
    under_way.push_back({(unsigned char*)target, {first, first + bytes}, true});
    return SUCCESS;
}

EXPORT CUresult cuMemcpyHtoDAsync_v2(CUdeviceptr target, const void* source, size_t bytes, void* stream) {
    ENTER(cuMemcpyHtoDAsync);
    if (stack.empty()) return INVALID_CONTEXT;
    if (stream != nullptr) return INVALID_HANDLE;
    if (!is_locked(source, bytes)) return INVALID_VALUE;
    auto first = (const unsigned char*)source;
    std::memcpy((void*)target, source, bytes);
    under_way.push_back({(unsigned char*)source, {first, first + bytes}, false});
    return SUCCESS;
}

// What was to be copied to the device must not have changed in main memory since: the device may have read it late.
EXPORT CUresult cuStreamSynchronize(void* stream) {
    ENTER(cuStreamSynchronize);
    if (stack.empty()) return INVALID_CONTEXT;
    if (stream != nullptr) return INVALID_HANDLE;
    bool kept = true;
    for (auto& copy : under_way) {
        if (copy.to_host) std::memcpy(copy.host, copy.bytes.data(), copy.bytes.size());
        else kept = kept && std::memcmp(copy.host, copy.bytes.data(), copy.bytes.size()) == 0;
    }
    under_way.clear();
    return kept ? SUCCESS : INVALID_VALUE;
}

static const std::map<int, std::pair<const char*, const char*>> errors = {
    {INVALID_VALUE, {"CUDA_ERROR_INVALID_VALUE", "invalid argument"}},
    {NOT_INITIALIZED, {"CUDA_ERROR_NOT_INITIALIZED", "initialization error"}},
    {NO_DEVICE, {"CUDA_ERROR_NO_DEVICE", "no CUDA-capable device is detected"}},
    {INVALID_DEVICE, {"CUDA_ERROR_INVALID_DEVICE", "invalid device ordinal"}},
    {INVALID_CONTEXT, {"CUDA_ERROR_INVALID_CONTEXT", "invalid device context"}},
    {NO_BINARY_FOR_GPU, {"CUDA_ERROR_NO_BINARY_FOR_GPU", "no kernel image is available for execution on the device"}},
    {INVALID_PTX, {"CUDA_ERROR_INVALID_PTX", "a PTX JIT compilation failed"}},
    {INVALID_HANDLE, {"CUDA_ERROR_INVALID_HANDLE", "invalid resource handle"}},
    {NOT_FOUND, {"CUDA_ERROR_NOT_FOUND", "named symbol not found"}},
    {ILLEGAL_ADDRESS, {"CUDA_ERROR_ILLEGAL_ADDRESS", "an illegal memory access was encountered"}},
};

EXPORT CUresult cuGetErrorName(CUresult error, const char** text) {
    auto found = errors.find(error);
    if (found == errors.end()) return INVALID_VALUE;
    *text = found->second.first;
    return SUCCESS;
}

EXPORT CUresult cuGetErrorString(CUresult error, const char** text) {
    auto found = errors.find(error);
    if (found == errors.end()) return INVALID_VALUE;
    *text = found->second.second;
    return SUCCESS;
}
